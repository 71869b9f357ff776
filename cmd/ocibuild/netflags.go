package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/ocibuild/ocibuild/executor"
	"github.com/spf13/pflag"
)

// netFlags are how steps, or a container, reach others. The first group of fields is
// what the flags say, the second what check made of it.
type netFlags struct {
	dnsTexts, searchTexts, optionTexts, hostTexts, caFiles []string
	network                                                string

	dns          executor.DNS
	hosts        []executor.HostIP
	certificates []byte
}

// networkModes are the values of --network.
var networkModes = []string{"default", "none", "host", "isolated"}

func (f *netFlags) flags(fs *pflag.FlagSet, who string) {
	fs.StringVar(&f.network, "network", "default", "give "+who+" this `NETWORK`: default or host, the machine's; none; isolated, one of its own by pasta or slirp4netns")
	fs.StringArrayVar(&f.hostTexts, "add-host", nil, "add `NAME:ADDRESS` to the /etc/hosts of "+who+"; the address host-gateway is this machine (may be repeated)")
	fs.StringSliceVar(&f.dnsTexts, "dns", nil, "let "+who+" ask this name server, an `ADDRESS` (may be repeated)")
	fs.StringSliceVar(&f.searchTexts, "dns-search", nil, "let "+who+" look names up in this `DOMAIN` too; . is none (may be repeated)")
	fs.StringSliceVar(&f.optionTexts, "dns-option", nil, "set this `OPTION` of resolv.conf (may be repeated)")
	fs.StringArrayVar(&f.caFiles, "ca-file", nil, "let "+who+" trust the authorities in this `FILE` (PEM) too; it is no part of the image or the cache (may be repeated)")
}

func (f *netFlags) check() error {
	found := false
	for _, mode := range networkModes {
		found = found || mode == f.network || f.network == ""
	}
	if !found {
		return oneOf("--network", f.network, networkModes)
	}
	var err error
	if f.hosts, err = parseHosts(f.hostTexts); err != nil {
		return err
	}
	if err := f.checkDNS(); err != nil {
		return err
	}
	for _, name := range f.caFiles {
		data, err := readCertificates(name)
		if err != nil {
			return err
		}
		f.certificates = append(append(f.certificates, bytes.TrimRight(data, "\n")...), '\n')
	}
	return nil
}

func (f *netFlags) checkDNS() error {
	for _, text := range f.dnsTexts {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return usagef("--dns=%s: it takes an address such as 10.0.0.2", text)
		}
		f.dns.Servers = append(f.dns.Servers, ip)
	}
	for flag, texts := range map[string][]string{"--dns-search": f.searchTexts, "--dns-option": f.optionTexts} {
		for _, text := range texts {
			if text == "" || strings.ContainsAny(text, " \t\r\n") {
				return usagef("%s=%q: it takes one word", flag, text)
			}
		}
	}
	f.dns.Search, f.dns.Options = f.searchTexts, f.optionTexts
	return nil
}

// readCertificates reads a file of certificates, at least one.
func readCertificates(name string) ([]byte, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, usagef("--ca-file=%s: %s", name, plainCause(err))
	}
	n := 0
	for rest := data; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, &usageError{msg: fmt.Sprintf("--ca-file=%s: it holds a %s", name, strings.ToLower(block.Type)), hint: "it takes certificates alone, in PEM"}
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, usagef("--ca-file=%s: certificate %d: %v", name, n+1, err)
		}
	}
	if n == 0 {
		return nil, &usageError{msg: fmt.Sprintf("--ca-file=%s: there is no certificate in it", name), hint: "it takes PEM: -----BEGIN CERTIFICATE-----"}
	}
	return data, nil
}
