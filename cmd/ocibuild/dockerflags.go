package main

// Why a flag that docker has is not there, and what does its work.
const (
	noService   = "a command runs in the foreground and nothing of it is kept: write & after it, or let a service manager start it"
	noPorts     = "leave it out: the network is this machine's, so that a port is open on it; --network isolated is another one"
	noNames     = "leave it out: nothing is kept that could have a name"
	noAttest    = "there are no attestations; `ocibuild build --metadata-file` writes digests and names"
	noCacheIO   = "the build cache is in the store alone: keep or share its directory, --root or $OCIBUILD_ROOT"
	noPrivilege = "--cap-add CAPABILITY and --security-opt OPTION lift what is in the way, one by one"
	noVolumes   = "-v SOURCE:TARGET[:ro] shows files of this machine, --tmpfs TARGET memory"
	noInit      = "leave it out: process 1 is always one that reaps and passes signals on"
)

// instead says, by verb, what to do in place of flags that docker has and ocibuild has not.
var instead = map[string]map[string]string{
	"build": {
		"load":          "leave it out: the image is in the store after every build",
		"rm":            "leave it out: steps leave nothing behind",
		"force-rm":      "leave it out: steps leave nothing behind",
		"squash":        "`ocibuild mutate --squash IMAGE` makes one layer of an image",
		"compress":      "leave it out: there is no daemon to send the context to",
		"builder":       "leave it out: there is no daemon",
		"cache-from":    noCacheIO,
		"cache-to":      noCacheIO,
		"sbom":          noAttest,
		"provenance":    noAttest,
		"attest":        noAttest,
		"annotation":    "`ocibuild mutate --annotation KEY=VALUE IMAGE` sets one",
		"cgroup-parent": "start ocibuild in that cgroup: those of steps are made beside or below its own",
	},
	"run": {
		"d": noService, "detach": noService, "restart": noService,
		"p": noPorts, "publish": noPorts, "P": noPorts, "publish-all": noPorts,
		"name": noNames, "cidfile": noNames, "l": noNames, "label": noNames,
		"privileged": noPrivilege, "device": noPrivilege,
		"mount": noVolumes, "volumes-from": noVolumes,
		"init": noInit, "sig-proxy": noInit,
		"stop-signal": noInit, "stop-timeout": "--timeout TIME ends a command that takes longer",
	},
}
