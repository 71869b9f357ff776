package main

// commands is the table of verbs, in the order of the overview.
func commands() []*command {
	return []*command{
		buildDescription(), lintDescription(),
		imagesDescription(), inspectDescription(), historyDescription(),
		tagDescription(), untagDescription(), rmiDescription(), pruneDescription(),
		pullDescription(), pushDescription(), loginDescription(), logoutDescription(),
		saveDescription(), loadDescription(), importDescription(), exportDescription(),
		manifestDescription(), fsckDescription(), versionDescription(), helpDescription(),
	}
}
