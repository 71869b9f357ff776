package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/pflag"
)

// listing prints rows of a verb that lists things: as a table, as JSON lines,
// or through the user's Go template.
type listing struct {
	format string
	quiet  bool
	// json asks for JSON lines, as --json does.
	json     bool
	template *template.Template
	table    bool
}

// declare declares the flags of everything that lists.
func (l *listing) declare(fs *pflag.FlagSet) {
	fs.StringVar(&l.format, "format", "", "print in this `FORMAT`: table, json, a Go template, or \"table TEMPLATE\"")
	fs.BoolVar(&l.json, "json", false, "print a JSON object a line, as --format=json does")
}

// parse looks at the value of --format: "", "table", "json", "table TEMPLATE"
// or TEMPLATE.
func (l *listing) parse() error {
	text := l.format
	switch {
	case text == "json":
		l.json = true
		return nil
	case text == "" || text == "table":
		return nil
	case strings.HasPrefix(text, "table "):
		l.table, text = true, strings.TrimPrefix(text, "table ")
	}
	t, err := parseTemplate(text)
	if err != nil {
		return err
	}
	l.template = t
	return nil
}

// parseTemplate reads a Go template with docker's functions.
func parseTemplate(text string) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	t, err := template.New("format").Funcs(templateFuncs()).Parse(text)
	if err != nil {
		return nil, &usageError{
			msg:  fmt.Sprintf("--format: %s", strings.TrimPrefix(err.Error(), "template: format:")),
			hint: "--format takes json or a Go template such as '{{.ID}}'",
		}
	}
	return t, nil
}

func templateFuncs() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			var b strings.Builder
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			err := enc.Encode(v)
			return strings.TrimSpace(b.String()), err
		},
		"join":  strings.Join,
		"split": strings.Split,
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"title": func(s string) string {
			if s == "" {
				return s
			}
			return strings.ToUpper(s[:1]) + s[1:]
		},
		"pad": func(s string, left, right int) string {
			return strings.Repeat(" ", max(0, left)) + s + strings.Repeat(" ", max(0, right))
		},
		"truncate": func(s string, n int) string {
			if r := []rune(s); n >= 0 && len(r) > n {
				return string(r[:n])
			}
			return s
		},
	}
}

// execute runs a template on one value and ends the line.
func execute(w io.Writer, t *template.Template, v any) error {
	var b strings.Builder
	if err := t.Execute(&b, v); err != nil {
		text := err.Error()
		if i := strings.Index(text, ">: "); i >= 0 {
			text = text[i+3:]
		}
		return &usageError{msg: "--format: " + text, hint: "--format=json shows the fields there are"}
	}
	_, err := io.WriteString(w, b.String()+"\n")
	return err
}

// writeFormatted prints items as --json and --format want it; done is false
// when they want the verb's own table. headers names the fields above a table.
func writeFormatted[T any](w io.Writer, l *listing, headers map[string]string, items []T) (done bool, err error) {
	switch {
	case l.json:
		for _, item := range items {
			if err := writeJSONLine(w, item); err != nil {
				return true, err
			}
		}
		return true, nil
	case l.table:
		return true, tableTemplate(w, l.template, headers, items)
	case l.template == nil:
		return false, nil
	}
	for _, item := range items {
		if err := execute(w, l.template, item); err != nil {
			return true, err
		}
	}
	return true, nil
}

// writeTable prints rows below headers, columns aligned and three blanks apart.
func writeTable(w io.Writer, headers []string, rows [][]string) error {
	widths := make([]int, len(headers))
	all := append([][]string{headers}, rows...)
	for _, r := range all {
		for i, cell := range r {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	var b strings.Builder
	for _, r := range all {
		for i, cell := range r {
			b.WriteString(cell)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-columns(cell)+3))
			}
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeAligned prints rows without a header, columns aligned and a blank apart,
// those of right to the right.
func writeAligned(w io.Writer, rows [][]string, right []int) error {
	var widths []int
	for _, r := range rows {
		widths = append(widths, make([]int, max(0, len(r)-len(widths)))...)
		for i, cell := range r {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		for i, cell := range r {
			pad := strings.Repeat(" ", widths[i]-columns(cell))
			switch {
			case i == len(r)-1:
				b.WriteString(cell + "\n")
			case slices.Contains(right, i):
				b.WriteString(pad + cell + " ")
			default:
				b.WriteString(cell + pad + " ")
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeJSONLine prints a value as one line of JSON.
func writeJSONLine(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// writeJSON prints a value as indented JSON.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "    ")
	return enc.Encode(v)
}

// tableTemplate prints "table TEMPLATE": the template's rows below a header
// made from its field names.
func tableTemplate[T any](w io.Writer, t *template.Template, header map[string]string, items []T) error {
	var cells [][]string
	lines := make([]string, 0, len(items)+1)
	var b strings.Builder
	if err := t.Execute(&b, header); err != nil {
		return &usageError{msg: "--format: " + err.Error()}
	}
	lines = append(lines, b.String())
	for _, item := range items {
		b.Reset()
		if err := t.Execute(&b, item); err != nil {
			return &usageError{msg: "--format: " + err.Error()}
		}
		lines = append(lines, b.String())
	}
	for _, line := range lines {
		cells = append(cells, strings.Split(line, "\t"))
	}
	for i := range cells {
		for len(cells[i]) < len(cells[0]) {
			cells[i] = append(cells[i], "")
		}
		cells[i] = cells[i][:len(cells[0])]
	}
	return writeTable(w, cells[0], cells[1:])
}
