package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

type loginCommand struct {
	host, user, password string
	stdin                bool
	insecure             []string
}

// defaultHost is the registry that names without a host belong to.
const defaultHost = "docker.io"

func loginDescription() *command {
	return &command{
		name: "login", args: "[HOST[/PATH]]", short: "store the credential of a registry",
		long: "Checks a user name and a password or token against a registry, docker.io if none is named, and stores them " +
			"where docker does: in $DOCKER_CONFIG/config.json or ~/.docker/config.json, or through the credential " +
			"helper that is set there; or, if $REGISTRY_AUTH_FILE names a file, in that, as podman does. With a PATH the credential is for the " +
			"repositories below it alone. Without -u and -p it asks on the terminal.",
		examples: []example{
			{"ocibuild login ghcr.io -u me --password-stdin < token.txt", "the password is in no process list and no history"},
			{"ocibuild login localhost:5000", "asks for both"},
			{"ocibuild login registry.example.com/team", "for registry.example.com/team/app and its like"},
		},
		make: func() verb { return &loginCommand{} },
	}
}

func (c *loginCommand) flags(fs *pflag.FlagSet) {
	fs.StringVarP(&c.user, "username", "u", "", "the user `NAME`")
	fs.StringVarP(&c.password, "password", "p", "", "the `PASSWORD` or token; other users may see it in the process list")
	fs.BoolVar(&c.stdin, "password-stdin", false, "read the password from standard input")
	insecureFlag(fs, &c.insecure)
}

// insecureFlag declares --insecure.
func insecureFlag(fs *pflag.FlagSet, hosts *[]string) {
	fs.StringArrayVar(hosts, "insecure", nil, "trust any certificate of the registry `HOST`, or speak plain http with it (may be repeated)")
}

func (c *loginCommand) accept(_ *stdio, args []string) error {
	if err := count(args, 0, 1, "at most one HOST"); err != nil {
		return err
	}
	switch {
	case c.stdin && c.password != "":
		return usagef("--password and --password-stdin exclude each other")
	case c.stdin && c.user == "":
		return usagef("--password-stdin needs --username")
	}
	var err error
	c.host, err = loginHost(args)
	return err
}

// parseRegistryHost reads the host of a registry.
func parseRegistryHost(arg string) (string, error) {
	if _, err := withoutUser(arg); err != nil {
		return "", err
	}
	host := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(arg, "https://"), "http://"), "/")
	if host == "" || strings.ContainsAny(host, "/ @?#") {
		return "", &usageError{msg: fmt.Sprintf("%q is not the host of a registry", arg), hint: "write it as ghcr.io or localhost:5000"}
	}
	return host, nil
}

// loginHost reads the argument of login and logout.
func loginHost(args []string) (string, error) {
	if len(args) == 0 {
		return defaultHost, nil
	}
	if _, err := withoutUser(args[0]); err != nil {
		return "", err
	}
	host := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(args[0], "https://"), "http://"), "/")
	if host == "" || strings.HasPrefix(host, "/") || strings.ContainsAny(host, " @?#") {
		return "", &usageError{msg: fmt.Sprintf("%q is not the host of a registry", args[0]), hint: "write it as ghcr.io or localhost:5000"}
	}
	return host, nil
}

func (c *loginCommand) run(ctx context.Context, s *session) error {
	if c.password != "" {
		fmt.Fprintln(s.err, "warning: a password on the command line can be seen in the process list and stays in the shell's history: --password-stdin avoids both")
	}
	if err := c.ask(s.stdio); err != nil {
		return err
	}
	warnings, err := s.client(c.insecure, noDisplay{}).Login(ctx, c.host, c.user, c.password)
	for _, w := range warnings {
		fmt.Fprintf(s.err, "warning: %s\n", sanitizeText(w))
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.out, "Login Succeeded")
	return err
}

// ask completes user name and password from standard input.
func (c *loginCommand) ask(s *stdio) error {
	if c.stdin {
		text, err := io.ReadAll(io.LimitReader(s.in, 1<<20))
		if err != nil {
			return fmt.Errorf("read password: %w", err)
		}
		c.password = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
		if c.password == "" {
			return usagef("--password-stdin: there is nothing on standard input")
		}
	}
	if c.user != "" && c.password != "" {
		return nil
	}
	if !s.inTTY || c.stdin {
		return &usageError{msg: "a user name and a password are needed, and there is no terminal to ask on", hint: "use --username and --password-stdin"}
	}
	if c.user == "" {
		fmt.Fprint(s.err, "Username: ")
		line, err := bufio.NewReader(io.LimitReader(s.in, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read user name: %w", err)
		}
		c.user = strings.TrimSpace(line)
	}
	if c.password == "" {
		fmt.Fprint(s.err, "Password: ")
		secret, err := s.secret()
		fmt.Fprintln(s.err)
		if err != nil {
			return fmt.Errorf("read password: %w", err)
		}
		c.password = secret
	}
	if c.user == "" || c.password == "" {
		return usagef("user name and password may not be empty")
	}
	return nil
}
