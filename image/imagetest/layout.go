package imagetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// refName is the annotation that names an image in index.json.
const refName = "org.opencontainers.image.ref.name"

// Layout checks everything in the layout at root that index.json names:
// documents against their schemas, and with skopeo and umoci, where they are
// installed, that others can read each image. A directory without a layout is fine.
func Layout(root string) error {
	text, err := os.ReadFile(filepath.Join(root, "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	layout, err := os.ReadFile(filepath.Join(root, ocispec.ImageLayoutFile))
	if err != nil {
		return err
	}
	if err := errors.Join(Match(IndexSchema, text), Match(LayoutSchema, layout)); err != nil {
		return fmt.Errorf("layout: %w", err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(text, &index); err != nil {
		return err
	}
	for _, d := range index.Manifests {
		if err := image(root, d); err != nil {
			return fmt.Errorf("image %s (%s): %w", d.Annotations[refName], d.Digest, err)
		}
	}
	return nil
}

func image(root string, d ocispec.Descriptor) error {
	text, err := blob(root, d)
	if err != nil {
		return err
	}
	if d.MediaType != ocispec.MediaTypeImageManifest {
		return nil // what was pulled stays as its maker wrote it
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	if len(m.Layers) > 0 { // the schema wants a layer; an image of labels alone has none
		if err := Match(ManifestSchema, text); err != nil {
			return fmt.Errorf("manifest: %w", err)
		}
	}
	config, err := blob(root, m.Config)
	if err != nil || m.Config.MediaType != ocispec.MediaTypeImageConfig {
		return err // of an artifact nobody knows more
	}
	if err := Match(ConfigSchema, config); err != nil {
		return fmt.Errorf("config: %w", err)
	}
	if d.Annotations[refName] == "" {
		return nil
	}
	return readers(root, d, len(m.Layers))
}

// blob reads a blob of the right size and digest.
func blob(root string, d ocispec.Descriptor) ([]byte, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(root, "blobs", d.Digest.Algorithm().String(), d.Digest.Encoded()))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) != d.Size || d.Digest.Algorithm().FromBytes(text) != d.Digest {
		return nil, fmt.Errorf("blob %s is not what its name says", d.Digest)
	}
	return text, nil
}

// readers has other programs read an image. Umoci unpacks as root only, and
// takes no image without layers.
func readers(root string, d ocispec.Descriptor, layers int) error {
	name := root + ":" + d.Annotations[refName]
	dir, err := os.MkdirTemp("", "imagetest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	policy := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644); err != nil {
		return err
	}
	out, err := program(dir, "skopeo", "--policy", policy, "inspect", "oci:"+name)
	if err == nil && out != "" && !strings.Contains(out, d.Digest.String()) {
		err = fmt.Errorf("skopeo sees another image:\n%s", out)
	}
	if err != nil || layers == 0 || os.Geteuid() != 0 {
		return err
	}
	_, err = program(dir, "umoci", "unpack", "--image", name, filepath.Join(dir, "bundle"))
	return err
}

// program runs a program, if it is installed.
func program(home, name string, args ...string) (string, error) {
	if _, err := exec.LookPath(name); err != nil {
		return "", nil //nolint:nilerr // the tests that are about peers say that they skip
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "HOME="+home)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
