package image

import (
	"slices"
	"strings"
)

// SetEnv sets a variable, in the place that it has.
func (c *RunConfig) SetEnv(name, value string) {
	text := name + "=" + value
	at := slices.IndexFunc(c.Env, func(e string) bool { return envName(e) == name })
	c.Env = slices.Clone(c.Env)
	if at < 0 {
		c.Env = append(c.Env, text)
		return
	}
	c.Env[at] = text
}

// UnsetEnv takes a variable away.
func (c *RunConfig) UnsetEnv(name string) {
	c.Env = slices.DeleteFunc(slices.Clone(c.Env), func(e string) bool { return envName(e) == name })
}

// Getenv gives the value of a variable.
func (c *RunConfig) Getenv(name string) (value string, ok bool) {
	for _, e := range c.Env {
		if envName(e) == name {
			_, value, _ = strings.Cut(e, "=")
			return value, true
		}
	}
	return "", false
}

func envName(e string) string {
	name, _, _ := strings.Cut(e, "=")
	return name
}

// SetLabel sets a label.
func (c *RunConfig) SetLabel(key, value string) {
	if c.Labels == nil {
		c.Labels = make(map[string]string)
	}
	c.Labels[key] = value
}

// AddVolume makes a path a volume.
func (c *RunConfig) AddVolume(path string) {
	if c.Volumes == nil {
		c.Volumes = make(map[string]struct{})
	}
	c.Volumes[path] = struct{}{}
}
