// Package imagetest checks a store's directory as a stranger would: against the
// JSON schemas of the image specification, and with the programs that read
// OCI image layouts. Only tests import it.
package imagetest
