package hosts

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxFile bounds a configuration file.
const maxFile = 4 << 20

// document is a TOML file with the lines of its keys, for errors that the format itself knows nothing of.
type document struct {
	file string
	// lines has, for "registry[0].mirror[1].location", the line where that key is.
	lines map[string]int
	// hosts are the names of the tables below "host", in the file's order.
	hosts []string
}

// readTOML reads a file into a struct.
func readTOML(file string, into any) (*document, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fileError(file, err)
	}
	if info.Size() > maxFile {
		return nil, &Error{File: file, Message: fmt.Sprintf("it has more than %d bytes", maxFile)}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fileError(file, err)
	}
	return parseTOML(file, text, into)
}

func parseTOML(file string, text []byte, into any) (*document, error) {
	d := &document{file: file, lines: map[string]int{}}
	if err := toml.Unmarshal(text, into); err != nil {
		e := &Error{File: file, Message: strings.TrimPrefix(err.Error(), "toml: "), Err: err}
		var at *toml.DecodeError
		if errors.As(err, &at) {
			e.Line, _ = at.Position()
			if key := strings.Join(at.Key(), "."); key != "" && !strings.Contains(e.Message, key) {
				e.Message = key + ": " + e.Message
			}
		}
		return nil, e
	}
	d.index(text)
	return d, nil
}

// errorf is an error at a key, or at the nearest table around it that is known.
func (d *document) errorf(key, format string, args ...any) *Error {
	return &Error{File: d.file, Line: d.line(key), Message: fmt.Sprintf(format, args...)}
}

func (d *document) line(key string) int {
	for key != "" {
		if n, ok := d.lines[key]; ok {
			return n
		}
		key = key[:max(0, strings.LastIndexByte(key, '.'))]
	}
	return 0
}

// index notes where each key is. The text is known to be valid.
func (d *document) index(text []byte) {
	var p unstable.Parser
	p.Reset(text)
	counts := map[string]int{}
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		parts, line := keyOf(&p, e)
		switch e.Kind {
		case unstable.Table:
			table = within(counts, "", parts)
			if len(parts) > 1 && parts[0] == "host" && !slices.Contains(d.hosts, parts[1]) {
				d.hosts = append(d.hosts, parts[1])
			}
			d.lines[table] = line
		case unstable.ArrayTable:
			last := len(parts) - 1
			bare := within(counts, "", parts[:last])
			bare = joined(bare, parts[last])
			table = fmt.Sprintf("%s[%d]", bare, counts[bare])
			counts[bare]++
			d.lines[table] = line
		case unstable.KeyValue:
			d.lines[joined(table, strings.Join(parts, "."))] = line
		}
	}
}

// keyOf gives the parts of a table's or a key's name, and its line.
func keyOf(p *unstable.Parser, e *unstable.Node) (parts []string, line int) {
	for it := e.Key(); it.Next(); {
		if line == 0 {
			line = p.Shape(it.Node().Raw).Start.Line
		}
		parts = append(parts, string(it.Node().Data))
	}
	return parts, line
}

// within gives the path of a table; of an array it is the last table so far.
func within(counts map[string]int, path string, parts []string) string {
	for _, part := range parts {
		path = joined(path, part)
		if n := counts[path]; n > 0 {
			path = fmt.Sprintf("%s[%d]", path, n-1)
		}
	}
	return path
}

func joined(path, part string) string {
	if path == "" {
		return part
	}
	return path + "." + part
}
