package parser

// Mount is one --mount of a RUN. Options whose values hold variables, quotes
// or escapes are only known after Expand; until then they are as written
// (strings) or unset (numbers and switches).
type Mount struct {
	Type     string // "bind", "cache", "tmpfs", "secret" or "ssh"
	From     string // a stage or image; never holds variables
	Source   string
	Target   string
	ID       string
	Sharing  string // "shared", "private", "locked" or empty
	Env      string // the variable a secret goes into, or empty
	ReadOnly bool   // after the type's default
	Required bool
	Size     int64 // of a tmpfs in bytes; 0 is no limit
	Mode     *uint32
	UID, GID *uint32
	Raw      string // the whole value of the flag, as written
}
