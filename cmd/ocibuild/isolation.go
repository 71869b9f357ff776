package main

import (
	"github.com/ocibuild/ocibuild/executor"
)

// isolation is the level that the flag names, or else the environment.
func isolation(flag, env string) (executor.Level, error) {
	text, from := flag, "--isolation"
	if text == "" {
		text, from = env, "$OCIBUILD_ISOLATION"
	}
	if text == "" {
		return executor.LevelAuto, nil
	}
	level, err := executor.ParseLevel(text)
	if err == nil {
		return level, nil
	}
	words := []string{string(executor.LevelAuto)}
	for _, l := range executor.Levels() {
		words = append(words, string(l))
	}
	return "", oneOf(from, text, words)
}
