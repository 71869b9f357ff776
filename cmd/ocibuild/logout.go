package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocibuild/ocibuild/registry"
	"github.com/spf13/pflag"
)

type logoutCommand struct{ host string }

func logoutDescription() *command {
	return &command{
		name: "logout", args: "[HOST[/PATH]]", short: "forget the credential of a registry",
		long:     "Removes the credential of a registry, docker.io if none is named, from where login stored it.",
		examples: []example{{"ocibuild logout ghcr.io", ""}},
		make:     func() verb { return &logoutCommand{} },
	}
}

func (c *logoutCommand) flags(*pflag.FlagSet) {}

func (c *logoutCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 0, 1, "at most one HOST"); err != nil {
		return err
	}
	var err error
	c.host, err = loginHost(args)
	return err
}

func (c *logoutCommand) run(ctx context.Context, s *session) error {
	warnings, err := s.client(nil, noDisplay{}).Logout(ctx, c.host)
	for _, w := range warnings {
		fmt.Fprintf(s.err, "warning: %s\n", sanitizeText(w))
	}
	if errors.Is(err, registry.ErrNotLoggedIn) {
		_, err = fmt.Fprintf(s.out, "Not logged in to %s\n", c.host)
		return err
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "Removing login credentials for %s\n", c.host)
	return err
}
