package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// maxSecret bounds a secret, as BuildKit does: it lives in memory.
const maxSecret = 500 << 10

// secretSource is one --secret: where the secret of an id is.
type secretSource struct{ id, file, env string }

// parseSecret reads id=ID[,src=FILE|,env=NAME]. An id alone stands for the
// variable of its name, or else the file.
func parseSecret(text string, env func(string) (string, bool)) (secretSource, error) {
	var s secretSource
	for field := range strings.SplitSeq(text, ",") {
		if err := s.set(field); err != nil {
			return s, usagef("--secret=%s: %v", text, err)
		}
	}
	switch {
	case s.id == "":
		return s, usagef("--secret=%s: id is missing", text)
	case s.file != "" && s.env != "":
		return s, usagef("--secret=%s: give src or env, not both", text)
	case s.file == "" && s.env == "":
		if _, ok := env(s.id); ok {
			s.env = s.id
		} else {
			s.file = s.id
		}
	}
	return s, nil
}

// set takes one key=value.
func (s *secretSource) set(field string) error {
	k, v, ok := strings.Cut(field, "=")
	if !ok {
		return fmt.Errorf("%q is not of the form key=value", field)
	}
	switch strings.ToLower(k) {
	case "id":
		s.id = v
	case "src", "source":
		s.file = v
	case "env":
		s.env = v
	case "type":
		if v != "file" && v != "env" {
			return errors.New("type is file or env")
		}
	default:
		return fmt.Errorf("unknown key %q: id, src and env are known", k)
	}
	return nil
}

// read gives the secret's bytes. Errors never hold any of them.
func (s secretSource) read(env func(string) (string, bool)) ([]byte, error) {
	if s.env != "" {
		v, ok := env(s.env)
		if !ok {
			return nil, usagef("secret %s: the environment has no %s", s.id, s.env)
		}
		return []byte(v), nil
	}
	info, err := os.Stat(s.file)
	if err != nil {
		return nil, usagef("secret %s: %v", s.id, err)
	}
	if info.Size() > maxSecret {
		return nil, usagef("secret %s: %s is larger than %d bytes", s.id, s.file, maxSecret)
	}
	data, err := os.ReadFile(s.file)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", s.id, err)
	}
	return data, nil
}

// readSecrets reads the values of --secret.
func readSecrets(texts []string, env func(string) (string, bool)) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, text := range texts {
		s, err := parseSecret(text, env)
		if err != nil {
			return nil, err
		}
		if out[s.id], err = s.read(env); err != nil {
			return nil, err
		}
	}
	return out, nil
}
