// Package sshagent answers the programs of a build step that ask for an SSH agent
// (RUN --mount=type=ssh), with the user's agent or with keys out of files.
//
// A step may list keys and have something signed. Everything else that the protocol
// has (draft-ietf-sshm-ssh-agent) is refused: no step adds, removes or locks the
// user's keys, and none reaches an extension of the agent's. Messages to the user's
// agent are passed on as they are, so that kinds of keys and signatures that this
// package has never heard of work.
//
// Keys stay in the memory of this process. Those with a passphrase are refused:
// they belong into an agent.
package sshagent
