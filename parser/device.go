package parser

import (
	"slices"
	"strconv"
	"strings"
)

var deviceKeys = []string{"name", "required"}

// checkDevice refuses a --device that is not a CDI device's name, given alone
// or as name=, and perhaps "required".
func checkDevice(raw string) error { //nolint:cyclop // flat: a case a refusal
	fields, err := csvFields(raw)
	if err != nil {
		return refuse("write --device=<vendor>/<class>=<name>", "bad device %q: %v", raw, err)
	}
	name := ""
	for _, field := range fields {
		key, value, valued := strings.Cut(field, "=")
		key = strings.ToLower(key)
		known := slices.Contains(deviceKeys, key)
		switch {
		case key == "required" && valued:
			if _, err := strconv.ParseBool(value); err != nil {
				return refuse("true or false", "invalid value for required: %s", value)
			}
		case key == "required":
		case key == "name" && valued && name == "":
			name = value
		case key == "name" && valued:
			return refuse("name one device a flag", "device name already set to %s", name)
		case !known && name == "":
			name = field
		case !valued:
			return refuse(didYouMean(key, deviceKeys), "invalid field '%s' must be a key=value pair", field)
		default:
			return refuse(didYouMean(key, deviceKeys), "unexpected key '%s' in '%s'", key, field)
		}
	}
	if name == "" {
		return refuse("write --device=<vendor>/<class>=<name>", "device %q has no name", raw)
	}
	return nil
}
