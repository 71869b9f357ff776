package parser

import "strings"

// from begins a stage, and looks at its name and platform.
func (l *linter) from(s *statement, f *From) {
	l.stage = &stageFacts{last: map[string]*statement{}}
	if base := l.stages[strings.ToLower(f.Image)]; base != nil {
		l.stage.workdir, l.stage.shell = base.workdir, base.shell
	}
	l.stageName(s, f)
	l.platform(s, f)
	if name := strings.ToLower(f.As); name != "" {
		l.description(s, []string{name})
		if l.stages == nil {
			l.stages = map[string]*stageFacts{}
		}
		l.stages[name] = l.stage
	}
}

func (l *linter) stageName(s *statement, f *From) {
	if f.As == "" {
		return
	}
	name := strings.ToLower(f.As)
	if f.As != name {
		l.warn(s, "StageNameCasing", "Stage name '%s' should be lowercase", f.As)
	}
	as := s.args[1]
	lower, upper := s.word == strings.ToLower(s.word), s.word == s.keyword
	if lower && as != "as" || upper && as != "AS" {
		l.warn(s, "FromAsCasing", "'%s' and '%s' keywords' casing do not match", as, s.word)
	}
	if name == "context" || name == "scratch" {
		l.warn(s, "ReservedStageName", "Stage name should not use the same name as reserved stage %q", name)
	}
	if l.stages[name] != nil {
		l.warn(s, "DuplicateStageName", "Duplicate stage name %q, stage names should be unique", name)
	}
}

func (l *linter) platform(s *statement, f *From) {
	p := f.Platform
	switch {
	case p == "$TARGETPLATFORM" || p == "${TARGETPLATFORM}":
		l.warn(s, "RedundantTargetPlatform",
			"Setting platform to predefined %s in FROM is redundant as this is the default behavior", p)
	case p != "" && !strings.Contains(p, "$") && !namesPlatform(f.As, p):
		l.warn(s, "FromPlatformFlagConstDisallowed", "FROM --platform flag should not use constant value %q", p)
	}
}

// namesPlatform tells whether a stage's name says which system it is for.
func namesPlatform(stage, platform string) bool {
	parts := strings.Split(strings.ToLower(platform), "/")
	for _, part := range parts[:min(2, len(parts))] {
		if strings.Contains(strings.ToLower(stage), part) {
			return true
		}
	}
	return false
}
