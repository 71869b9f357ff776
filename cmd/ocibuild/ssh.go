package main

import (
	"strings"

	"github.com/ocibuild/ocibuild/build"
	"github.com/ocibuild/ocibuild/build/sshagent"
)

// openAgents reads the values of --ssh: ID, for the agent that the environment
// names, or ID=SOCKET or ID=KEY,KEY.
func openAgents(texts []string, env func(string) (string, bool)) (map[string]build.SSHAgent, error) {
	out := map[string]build.SSHAgent{}
	for _, text := range texts {
		id, list, _ := strings.Cut(text, "=")
		paths := strings.Split(list, ",")
		if list == "" {
			socket, _ := env("SSH_AUTH_SOCK")
			if socket == "" {
				return nil, &usageError{
					msg: "--ssh=" + text + ": no agent is running: $SSH_AUTH_SOCK is not set", hint: "name a key instead: --ssh " + id + "=$HOME/.ssh/id_ed25519",
				}
			}
			paths = []string{socket}
		}
		if _, twice := out[id]; twice || id == "" {
			return nil, &usageError{msg: "--ssh=" + text + ": each needs an id of its own", hint: "the id that RUN --mount=type=ssh,id=ID names; without one it is default"}
		}
		agent, err := sshagent.Open(paths...)
		if err != nil {
			return nil, usagef("--ssh=%s: %v", text, err)
		}
		out[id] = agent
	}
	return out, nil
}
