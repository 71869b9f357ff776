package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// shell is `sh [-OPTIONS] [-c TEXT [NAME] | FILE] [ARG...]`; without TEXT and FILE it reads the script from standard input.
func shell(args []string) error {
	var options []string
	name, text, command := args[0], "", false
	args = args[1:]
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		option := args[0]
		args = args[1:]
		if option == "--" {
			break
		}
		command = command || option[0] == '-' && strings.Contains(option, "c")
		option = strings.NewReplacer("c", "", "i", "", "l", "", "s", "").Replace(option)
		if len(option) > 1 {
			options = append(options, option)
		}
		if strings.HasSuffix(option, "o") && len(args) > 0 {
			options, args = append(options, args[0]), args[1:]
		}
	}
	if command {
		if len(args) == 0 {
			return usage("-c wants a command")
		}
		text, args = args[0], args[1:]
	}
	var source io.Reader = os.Stdin
	if len(args) > 0 {
		name, args = args[0], args[1:]
		if !command {
			file, err := os.Open(name)
			if err != nil {
				fmt.Fprintf(os.Stderr, "sh: %v\n", err)
				return exitCode(127)
			}
			defer file.Close()
			source = file
		}
	}
	if command {
		source = strings.NewReader(text)
	}
	return interpret(name, source, append(append(options, "--"), args...))
}

// builtin runs one of the shell's own commands, such as echo, as a program.
func builtin(args []string) error {
	return interpret(args[0], strings.NewReader(args[0]+` "$@"`), append([]string{"--"}, args[1:]...))
}

// interpret runs a script; params are as for the shell's set command.
func interpret(name string, source io.Reader, params []string) error {
	script, err := syntax.NewParser().Parse(source, name)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitCode(2)
	}
	runner, err := interp.New(interp.StdIO(os.Stdin, os.Stdout, os.Stderr), interp.Params(params...), interp.CallHandler(umask))
	if err != nil {
		return usage(err.Error())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err = runner.Run(ctx, script)
	if ctx.Err() != nil {
		return exitCode(128 + int(syscall.SIGTERM))
	}
	if status, ok := errors.AsType[interp.ExitStatus](err); ok {
		return exitCode(status)
	}
	return err
}

// umask answers the builtin of that name, which the interpreter lacks; it leaves every other command as it is.
func umask(_ context.Context, args []string) ([]string, error) {
	if args[0] != "umask" {
		return args, nil
	}
	if len(args) > 1 {
		mask, err := strconv.ParseUint(args[1], 8, 9)
		if err != nil {
			return []string{"false"}, nil
		}
		syscall.Umask(int(mask))
		return []string{"true"}, nil
	}
	mask := syscall.Umask(0)
	syscall.Umask(mask)
	return []string{"printf", `%04o\n`, strconv.Itoa(mask)}, nil
}

// usage complains about an applet's arguments.
func usage(message string) error {
	fmt.Fprintf(os.Stderr, "usage: %s\n", message)
	return exitCode(2)
}
