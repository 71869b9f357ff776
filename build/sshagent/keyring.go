package sshagent

import (
	"bytes"
	"crypto/rand"

	"golang.org/x/crypto/ssh"
)

// key is a private key and what a user knows it by.
type key struct {
	signer  ssh.Signer
	comment string
}

// keyring answers with keys of our own.
type keyring []key

func (k keyring) answer(request []byte) ([]byte, error) {
	if request[0] == requestKeys {
		return k.list(), nil
	}
	var sign struct {
		Blob  []byte `sshtype:"13"`
		Data  []byte
		Flags uint32
	}
	if err := ssh.Unmarshal(request, &sign); err != nil {
		return []byte{failure}, nil
	}
	for _, one := range k {
		if bytes.Equal(one.signer.PublicKey().Marshal(), sign.Blob) {
			return one.sign(sign.Data, sign.Flags), nil
		}
	}
	return []byte{failure}, nil
}

func (k keyring) list() []byte {
	out := ssh.Marshal(struct {
		Count uint32 `sshtype:"12"`
	}{uint32(len(k))})
	for _, one := range k {
		out = append(out, ssh.Marshal(struct {
			Blob    []byte
			Comment string
		}{one.signer.PublicKey().Marshal(), one.comment})...)
	}
	return out
}

// The flags of a request to sign with an RSA key.
const (
	flagSHA256 = 2
	flagSHA512 = 4
)

func (k key) sign(data []byte, flags uint32) []byte {
	algorithm := ""
	switch {
	case flags&flagSHA512 != 0:
		algorithm = ssh.KeyAlgoRSASHA512
	case flags&flagSHA256 != 0:
		algorithm = ssh.KeyAlgoRSASHA256
	}
	var sig *ssh.Signature
	var err error
	signer, ok := k.signer.(ssh.AlgorithmSigner)
	if k.signer.PublicKey().Type() == ssh.KeyAlgoRSA && ok && algorithm != "" {
		sig, err = signer.SignWithAlgorithm(rand.Reader, data, algorithm)
	} else {
		sig, err = k.signer.Sign(rand.Reader, data)
	}
	if err != nil {
		return []byte{failure}
	}
	return ssh.Marshal(struct {
		Signature []byte `sshtype:"14"`
	}{ssh.Marshal(sig)})
}
