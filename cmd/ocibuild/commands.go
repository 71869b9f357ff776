package main

// commands is the table of verbs, in the order of the overview.
func commands() []*command {
	return []*command{
		buildDescription(), lintDescription(),
		imagesDescription(), searchDescription(), inspectDescription(), historyDescription(), logsDescription(), resolveDescription(), existsDescription(),
		containerDescription(), shellDescription(),
		lsDescription(), catDescription(), diffDescription(), verifyDescription(), mountDescription(), umountDescription(),
		tagDescription(), untagDescription(), rmiDescription(), pruneDescription(), dfDescription(),
		pullDescription(), pushDescription(), copyDescription(), loginDescription(), logoutDescription(), registryDescription(),
		saveDescription(), loadDescription(), importDescription(), exportDescription(),
		mutateDescription(), rebaseDescription(), manifestDescription(), layerDescription(), fsckDescription(), doctorDescription(), versionDescription(), helpDescription(),
	}
}
