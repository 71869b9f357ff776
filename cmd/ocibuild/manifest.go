package main

import (
	"errors"

	"github.com/ocibuild/ocibuild/image"
)

func manifestDescription() *command {
	return &command{
		name: "manifest", short: "make and change images for several platforms",
		long: "An image for several platforms is an index: a list of images, each with its platform. These verbs make one of images " +
			"in the store and change it; every change gives it another digest, and its name moves along. `ocibuild push` sends it.",
		subs: []*command{
			manifestCreateDescription(), manifestAddDescription(), manifestAnnotateDescription(),
			manifestInspectDescription(), manifestRemoveDescription(), manifestRmDescription(),
		},
	}
}

// manifestError words what the store says of the index name.
func manifestError(name string, err error) error {
	var (
		entry  *image.EntryError
		single *image.NotIndexError
		taken  *image.PlatformTakenError
		exists *image.ExistsError
		none   *image.NoEntryError
	)
	switch {
	case errors.As(err, &entry):
		return missingImage(entry.Name, entry.Err)
	case errors.As(err, &single):
		return &storeError{msg: single.Error(), hint: "`ocibuild manifest create` makes an index of images", err: err}
	case errors.As(err, &taken):
		return &storeError{msg: taken.Error(), hint: "`ocibuild manifest remove` takes it away", err: err}
	case errors.As(err, &exists):
		return &storeError{msg: exists.Error(), hint: "--amend adds to it; `ocibuild rmi` removes it", err: err}
	case errors.As(err, &none):
		return &storeError{msg: none.Error(), hint: "`ocibuild manifest inspect " + name + "` lists them", err: err}
	}
	return missingImage(name, err)
}
