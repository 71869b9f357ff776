package main

import (
	"strings"

	"github.com/ocibuild/ocibuild/image"
)

func registryDescription() *command {
	return &command{
		name: "registry", short: "look into registries, and delete there",
		long: "These verbs ask registries and leave the store alone. `ocibuild copy` copies from one to another, `pull` and `push` fetch and send, " +
			"`login` keeps a credential. `ocibuild help registries` tells of mirrors, certificates and credentials.",
		subs: []*command{
			registryTagsDescription(), registryCatalogDescription(), registryResolveDescription(), registryExistsDescription(),
			registryInspectDescription(), registryReferrersDescription(), registryRmDescription(),
		},
	}
}

// parseRemote reads the references of a verb that asks registries.
func parseRemote(args []string) ([]image.Ref, error) {
	var refs []image.Ref
	for _, arg := range args {
		ref, err := parseRef(arg)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref.WithDefaultTag())
	}
	return refs, nil
}

// parseRepository reads the name of a repository, which has no tag.
func parseRepository(arg string) (image.Ref, error) {
	ref, err := parseRef(arg)
	if err == nil && !strings.Contains(arg, "/") && strings.Contains(arg, ".") {
		return ref, &usageError{msg: arg + ": a repository is wanted, not a host", hint: "`ocibuild registry catalog " + arg + "` lists its repositories"}
	}
	if err == nil && (ref.Tag() != "" || ref.Digest() != "") {
		err = &usageError{msg: arg + ": a repository is wanted", hint: "leave the tag out: " + repositoryName(ref)}
	}
	return ref, err
}
