package main

import "io"

// writeRegistries prints how registries are found, trusted and logged in to.
func writeRegistries(w io.Writer) error {
	_, err := io.WriteString(w, `How ocibuild finds registries, trusts them and logs in to them.

Credentials, the first place that has one counts:
  $DOCKER_AUTH_CONFIG           the text of a config.json
  $REGISTRY_AUTH_FILE           a file, as podman has it; login stores there
  $DOCKER_CONFIG/config.json    or ~/.docker/config.json, with its credsStore
                                and credHelpers; login stores there else
  podman's auth.json            in $XDG_RUNTIME_DIR/containers, else in
                                ~/.config/containers; not beside
                                $REGISTRY_AUTH_FILE
An entry may be for a host or for a part of it: registry.example.com/team.
The longest that fits counts.

Mirrors, names and blocked registries, containers' format:
  $CONTAINERS_REGISTRIES_CONF, else ~/.config/containers/registries.conf, else
  /etc/containers/registries.conf, and the *.conf in registries.conf.d beside
  the last two ($CONTAINERS_REGISTRIES_CONF_DIR in their place)

Servers of a host, containerd's format, and certificates:
  certs.d/HOST:PORT/hosts.toml  or HOST_PORT_; certs.d/_default for all others
  certs.d/HOST:PORT/ca.crt      an authority to trust, beside the system's
  certs.d/HOST:PORT/client.cert and client.key, what to show to the host
  each in ~/.config/containerd, ~/.config/docker, ~/.config/containers,
  /etc/containerd, /etc/docker and /etc/containers; $OCIBUILD_CERTS_DIR, a list
  of directories, in place of all of them

Mirrors are asked in order, then the registry itself; who is in trouble is asked
last from then on. Pushes go to the registry itself. Short names are Docker's:
app is docker.io/library/app whatever registries.conf says.

Registries on this machine (localhost) may speak plain http. Elsewhere
--insecure HOST, insecure = true in registries.conf, or an http:// server in
hosts.toml allows it. $HTTPS_PROXY, $HTTP_PROXY and $NO_PROXY count as usual.

More:
  ocibuild help login           keep a credential
  ocibuild help registry        ask registries
`)
	return err
}
