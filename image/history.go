package image

import (
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Step is an entry of an image's history with the layer that it gave.
type Step struct {
	ocispec.History
	Layer *Layer // nil where the entry gave none
}

// Steps pairs the history of an image with its layers, the oldest first. Layers
// that no entry stands for get one of their own, which says nothing.
func (i *Image) Steps() []Step {
	var steps []Step
	layers := slices.Clone(i.Layers)
	take := func() *Layer {
		if len(layers) == 0 {
			return nil
		}
		l := &layers[0]
		layers = layers[1:]
		return l
	}
	for _, h := range i.Config.History {
		step := Step{History: h}
		if !h.EmptyLayer {
			step.Layer = take()
		}
		steps = append(steps, step)
	}
	for l := take(); l != nil; l = take() {
		steps = append(steps, Step{Layer: l})
	}
	return steps
}
