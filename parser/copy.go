package parser

// Transfer is what COPY and ADD share.
type Transfer struct {
	Sources  []string // paths, wildcards or (ADD) URLs; heredocs are apart
	Dest     string
	From     string // a stage, image or context; never holds variables. COPY alone
	Chown    string
	Chmod    string
	Link     bool
	Parents  bool // COPY alone
	Exclude  []string
	Heredocs []Heredoc // files given in the Dockerfile itself
}

// Copy copies files from the context, a stage or an image.
type Copy struct {
	Node
	Transfer
}

// Add is Copy that also unpacks archives and fetches URLs and git repositories.
type Add struct {
	Node
	Transfer
	Checksum   string
	KeepGitDir bool
	Unpack     *bool // nil: unpack what is local, not what is remote
}
