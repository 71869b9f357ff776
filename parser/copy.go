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
	KeepGitDir *bool // nil: what the source says
	Unpack     *bool // nil: unpack what is local, not what is remote
}

func convertCopy(s *statement) (Instruction, error) {
	c := &Copy{Node: s.Node}
	if err := s.transfer(&c.Transfer, c.flags()); err != nil {
		return nil, err
	}
	// A variable would make the stages' order unknown until the build runs.
	if plain, err := (Expander{}).Word(c.From, nil); err != nil || plain != c.From {
		return nil, refuse("give the source a stage: FROM $NAME AS src, then COPY --from=src",
			"variable expansion is not supported for --from")
	}
	return c, nil
}

func convertAdd(s *statement) (Instruction, error) {
	a := &Add{Node: s.Node}
	return a, s.transfer(&a.Transfer, a.flags())
}

func (c *Copy) flags() []flag {
	return append([]flag{textFlag("from", &c.From), toggleFlag("parents", &c.Parents)}, c.Transfer.flags()...)
}

func (a *Add) flags() []flag {
	own := []flag{textFlag("checksum", &a.Checksum), givenFlag("keep-git-dir", &a.KeepGitDir), givenFlag("unpack", &a.Unpack)}
	return append(own, a.Transfer.flags()...)
}

// givenFlag is a toggle that tells whether it was given at all.
func givenFlag(name string, at **bool) flag {
	var on bool
	f := toggleFlag(name, &on)
	set := f.set
	f.set = func(value string) error {
		*at = &on
		return set(value)
	}
	return f
}

// flags are those that COPY and ADD share.
func (t *Transfer) flags() []flag {
	return []flag{
		textFlag("chown", &t.Chown),
		textFlag("chmod", &t.Chmod),
		toggleFlag("link", &t.Link),
		listFlag("exclude", &t.Exclude),
	}
}

// transfer reads a COPY or ADD that has some flags.
func (s *statement) transfer(t *Transfer, flags []flag) error {
	if len(s.args) < 2 {
		return refuse("write "+s.keyword+" <source> <destination>", "%s requires at least two arguments", s.keyword)
	}
	if err := parseFlags(s.flags, flags...); err != nil {
		return err
	}
	last := len(s.args) - 1
	t.Dest = s.args[last]
	if s.json {
		t.Sources = s.args[:last]
		return nil
	}
	if heredocWord(t.Dest) != nil {
		return refuse("the destination stands last", "%s cannot accept a heredoc as a destination", s.keyword)
	}
	return s.takeHeredocs(t, s.args[:last])
}

// takeHeredocs parts the sources that are heredocs from those that are paths.
// The line parser finds heredocs by the shell's rules and arguments by blanks
// alone; where the two disagree, nobody can tell what is meant.
func (s *statement) takeHeredocs(t *Transfer, sources []string) error {
	for _, source := range sources {
		if heredocWord(source) == nil {
			t.Sources = append(t.Sources, source)
			continue
		}
		if n := len(t.Heredocs); n < len(s.heredocs) {
			t.Heredocs = append(t.Heredocs, s.heredocs[n])
			continue
		}
		return refuse("close every quote on the line", "the heredoc %s has no body", source)
	}
	if len(t.Heredocs) != len(s.heredocs) {
		return refuse("write <<NAME without blanks", "%s cannot tell which word begins its heredoc", s.keyword)
	}
	return nil
}
