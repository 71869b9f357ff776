package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
)

// parse reads an applet's flags, which define has named, and returns the other arguments.
func parse(args []string, define func(f *pflag.FlagSet)) ([]string, error) {
	f := pflag.NewFlagSet(args[0], pflag.ContinueOnError)
	f.SetInterspersed(true)
	define(f)
	if err := f.Parse(args[1:]); err != nil {
		return nil, usage(fmt.Sprintf("%s: %v", args[0], err))
	}
	return f.Args(), nil
}

// open returns the content of the named files one after the other, or standard input when there is none. "-" is standard input.
func open(paths []string) (io.Reader, error) {
	if len(paths) == 0 {
		return os.Stdin, nil
	}
	var all []io.Reader
	for _, path := range paths {
		if path == "-" {
			all = append(all, os.Stdin)
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		all = append(all, file)
	}
	return io.MultiReader(all...), nil
}

// readLines returns the lines of the named files, without their ends.
func readLines(paths []string) ([]string, error) {
	in, err := open(paths)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(in)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), nil
}

// writeLines prints lines.
func writeLines(lines []string) error {
	out := bufio.NewWriter(os.Stdout)
	for _, line := range lines {
		out.WriteString(line)
		out.WriteByte('\n')
	}
	return out.Flush()
}

// obsolete turns `head -5` into `head -n 5`.
func obsolete(args []string) []string {
	if len(args) > 1 && len(args[1]) > 1 && args[1][0] == '-' && unicode.IsDigit(rune(args[1][1])) {
		return append([]string{args[0], "-n", args[1][1:]}, args[2:]...)
	}
	return args
}

func head(args []string) error {
	var lines, size int
	paths, err := parse(obsolete(args), func(f *pflag.FlagSet) {
		f.IntVarP(&lines, "lines", "n", 10, "so many lines")
		f.IntVarP(&size, "bytes", "c", -1, "so many bytes")
	})
	if err != nil {
		return err
	}
	if size >= 0 {
		in, err := open(paths)
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, io.LimitReader(in, int64(size)))
		return err
	}
	all, err := readLines(paths)
	return errors.Join(err, writeLines(all[:min(max(lines, 0), len(all))]))
}

func tail(args []string) error {
	var count string
	paths, err := parse(obsolete(args), func(f *pflag.FlagSet) {
		f.StringVarP(&count, "lines", "n", "10", "so many lines; +N from line N on")
	})
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	all, err := readLines(paths)
	from := max(0, len(all)-n)
	if strings.HasPrefix(count, "+") {
		from = min(len(all), max(0, n-1))
	}
	return errors.Join(err, writeLines(all[from:]))
}

func wc(args []string) error {
	var lines, words, size bool
	paths, err := parse(args, func(f *pflag.FlagSet) {
		f.BoolVarP(&lines, "lines", "l", false, "count lines")
		f.BoolVarP(&words, "words", "w", false, "count words")
		f.BoolVarP(&size, "bytes", "c", false, "count bytes")
	})
	if err != nil {
		return err
	}
	all := !lines && !words && !size
	names := paths
	if len(names) == 0 {
		names = []string{"-"}
	}
	for _, name := range names {
		in, err := open([]string{name})
		if err != nil {
			return err
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		var row []string
		if lines || all {
			row = append(row, strconv.Itoa(strings.Count(string(data), "\n")))
		}
		if words || all {
			row = append(row, strconv.Itoa(len(strings.Fields(string(data)))))
		}
		if size || all {
			row = append(row, strconv.Itoa(len(data)))
		}
		if len(paths) > 0 {
			row = append(row, name)
		}
		fmt.Println(strings.Join(row, " "))
	}
	return nil
}

func sortLines(args []string) error {
	var reverse, numeric, unique bool
	paths, err := parse(args, func(f *pflag.FlagSet) {
		f.BoolVarP(&reverse, "reverse", "r", false, "largest first")
		f.BoolVarP(&numeric, "numeric-sort", "n", false, "by the number at the start")
		f.BoolVarP(&unique, "unique", "u", false, "equal lines once")
	})
	if err != nil {
		return err
	}
	all, err := readLines(paths)
	slices.Sort(all)
	if unique {
		all = slices.Compact(all)
	}
	if numeric {
		slices.SortStableFunc(all, func(a, b string) int { return cmp.Compare(number(a), number(b)) })
	}
	if reverse {
		slices.Reverse(all)
	}
	return errors.Join(err, writeLines(all))
}

// number is the number that a line begins with, or 0.
func number(line string) float64 {
	line = strings.TrimLeft(line, " \t")
	end := 0
	for end < len(line) && strings.IndexByte("-0123456789.", line[end]) >= 0 {
		end++
	}
	n, err := strconv.ParseFloat(line[:end], 64)
	if err != nil {
		return 0
	}
	return n
}

func uniq(args []string) error {
	var count bool
	paths, err := parse(args, func(f *pflag.FlagSet) {
		f.BoolVarP(&count, "count", "c", false, "say how many")
	})
	if err != nil {
		return err
	}
	all, err := readLines(paths)
	var out []string
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n] == all[0] {
			n++
		}
		line := all[0]
		if count {
			line = fmt.Sprintf("%7d %s", n, line)
		}
		out, all = append(out, line), all[n:]
	}
	return errors.Join(err, writeLines(out))
}

func seq(args []string) error {
	bounds := make([]int, 0, 3)
	for _, arg := range args[1:] {
		n, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		bounds = append(bounds, n)
	}
	first, step := 1, 1
	switch len(bounds) {
	case 1:
	case 2:
		first = bounds[0]
	case 3:
		first, step = bounds[0], bounds[1]
	default:
		return usage("seq [FIRST [STEP]] LAST")
	}
	if step == 0 {
		return usage("seq: the step is 0")
	}
	last := bounds[len(bounds)-1]
	var lines []string
	for n := first; step > 0 && n <= last || step < 0 && n >= last; n += step {
		lines = append(lines, strconv.Itoa(n))
	}
	return writeLines(lines)
}

func tee(args []string) error {
	var appending bool
	paths, err := parse(args, func(f *pflag.FlagSet) {
		f.BoolVarP(&appending, "append", "a", false, "append")
	})
	if err != nil {
		return err
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if appending {
		flags = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	}
	outs := []io.Writer{os.Stdout}
	for _, path := range paths {
		file, err := os.OpenFile(path, flags, 0o666)
		if err != nil {
			return err
		}
		outs = append(outs, file)
	}
	_, err = io.Copy(io.MultiWriter(outs...), os.Stdin)
	return err
}

// grepFlags are grep's flags.
type grepFlags struct {
	invert, fold, quiet, count, number, fixed, extended, whole, only bool
}

func grep(args []string) error {
	var g grepFlags
	rest, err := parse(args, func(f *pflag.FlagSet) {
		f.BoolVarP(&g.invert, "invert-match", "v", false, "lines that do not match")
		f.BoolVarP(&g.fold, "ignore-case", "i", false, "ignore case")
		f.BoolVarP(&g.quiet, "quiet", "q", false, "exit code alone")
		f.BoolVarP(&g.count, "count", "c", false, "how many lines")
		f.BoolVarP(&g.number, "line-number", "n", false, "with line numbers")
		f.BoolVarP(&g.fixed, "fixed-strings", "F", false, "a text, no expression")
		f.BoolVarP(&g.extended, "extended-regexp", "E", false, "an extended expression, as it always is")
		f.BoolVarP(&g.whole, "line-regexp", "x", false, "the whole line")
		f.BoolVarP(&g.only, "only-matching", "o", false, "what matches alone")
	})
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return usage("grep [-vicqnFExo] PATTERN [FILE...]")
	}
	pattern, err := g.compile(rest[0])
	if err != nil {
		return usage("grep: " + err.Error())
	}
	lines, err := readLines(rest[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "grep: %v\n", err)
		return exitCode(2)
	}
	found := g.find(pattern, lines)
	if g.count {
		fmt.Println(len(found))
	} else if !g.quiet {
		if err := writeLines(found); err != nil {
			return err
		}
	}
	if len(found) == 0 {
		return exitCode(1)
	}
	return nil
}

// compile makes the expression that the flags ask for.
func (g *grepFlags) compile(pattern string) (*regexp.Regexp, error) {
	if g.fixed {
		pattern = regexp.QuoteMeta(pattern)
	}
	if g.whole {
		pattern = "^(?:" + pattern + ")$"
	}
	if g.fold {
		pattern = "(?i)" + pattern
	}
	return regexp.Compile(pattern)
}

// find returns what is to be printed.
func (g *grepFlags) find(pattern *regexp.Regexp, lines []string) []string {
	var found []string
	for i, line := range lines {
		if pattern.MatchString(line) == g.invert {
			continue
		}
		if g.only && !g.invert {
			found = append(found, pattern.FindAllString(line, -1)...)
			continue
		}
		if g.number {
			line = fmt.Sprintf("%d:%s", i+1, line)
		}
		found = append(found, line)
	}
	return found
}

func cut(args []string) error {
	var list, delimiter string
	paths, err := parse(args, func(f *pflag.FlagSet) {
		f.StringVarP(&list, "fields", "f", "1-", "which fields: 1,3-4,6-")
		f.StringVarP(&delimiter, "delimiter", "d", "\t", "what stands between fields")
	})
	if err != nil {
		return err
	}
	wanted, err := parseRanges(list)
	if err != nil {
		return usage("cut: " + err.Error())
	}
	lines, err := readLines(paths)
	for i, line := range lines {
		fields := strings.Split(line, delimiter)
		if len(fields) == 1 {
			continue
		}
		var kept []string
		for n, field := range fields {
			if wanted(n + 1) {
				kept = append(kept, field)
			}
		}
		lines[i] = strings.Join(kept, delimiter)
	}
	return errors.Join(err, writeLines(lines))
}

// parseRanges reads "1,3-4,6-".
func parseRanges(list string) (func(n int) bool, error) {
	type span struct{ from, to int }
	var spans []span
	for item := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(item, "-")
		s := span{1, int(^uint(0) >> 1)}
		var err1, err2 error
		if from != "" {
			s.from, err1 = strconv.Atoi(from)
		}
		if !isRange {
			s.to = s.from
		} else if to != "" {
			s.to, err2 = strconv.Atoi(to)
		}
		if err := errors.Join(err1, err2); err != nil || item == "" || item == "-" {
			return nil, fmt.Errorf("bad list %q", list)
		}
		spans = append(spans, s)
	}
	return func(n int) bool {
		return slices.ContainsFunc(spans, func(s span) bool { return s.from <= n && n <= s.to })
	}, nil
}

func tr(args []string) error {
	var remove bool
	sets, err := parse(args, func(f *pflag.FlagSet) {
		f.BoolVarP(&remove, "delete", "d", false, "delete the characters of the first set")
	})
	if err != nil {
		return err
	}
	if remove && len(sets) != 1 || !remove && len(sets) != 2 {
		return usage("tr [-d] SET1 [SET2]")
	}
	from := expandSet(sets[0])
	to := []rune{-1}
	if !remove {
		to = expandSet(sets[1])
	}
	if len(to) == 0 {
		return usage("tr: the second set is empty")
	}
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(strings.Map(func(r rune) rune {
		if i := slices.Index(from, r); i >= 0 {
			return to[min(i, len(to)-1)]
		}
		return r
	}, string(data)))
	return err
}

// expandSet reads a set of characters: ranges, classes of letters and digits, and escapes.
func expandSet(set string) []rune {
	set = strings.NewReplacer("[:upper:]", "A-Z", "[:lower:]", "a-z", "[:digit:]", "0-9", "[:space:]", " \t\n\v\f\r",
		`\n`, "\n", `\t`, "\t", `\r`, "\r", `\\`, `\`).Replace(set)
	in := []rune(set)
	var out []rune
	for i := 0; i < len(in); i++ {
		if i+2 < len(in) && in[i+1] == '-' {
			for r := in[i]; r <= in[i+2]; r++ {
				out = append(out, r)
			}
			i += 2
			continue
		}
		out = append(out, in[i])
	}
	return out
}
