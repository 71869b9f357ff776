package parser

import "errors"

// Lookup gives a variable's value, and whether it is set.
type Lookup func(name string) (value string, ok bool)

// Expander expands the variables of words.
type Expander struct {
	Escape rune // the file's escape character; 0 is '\\'
}

// Word expands a word: quotes and escapes are taken away and variables
// replaced. White space stays, so the result is one word.
func (x Expander) Word(word string, env Lookup) (string, error) {
	return "", errors.New("not written yet")
}

// Words is Word, split where white space stands outside quotes.
func (x Expander) Words(word string, env Lookup) ([]string, error) {
	return nil, errors.New("not written yet")
}

// Body expands the variables of a heredoc's body. Quotes are ordinary
// characters there, and the escape character is always the backslash.
func (x Expander) Body(text string, env Lookup) (string, error) {
	return "", errors.New("not written yet")
}
