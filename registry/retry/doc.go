// Package retry says which failures of HTTP may be gone next time, and how long to
// wait for that. Registries and the servers that a build names are asked by the same
// rules.
//
// It is pure but for [Sleep]: it sends nothing and keeps no state. What its user knows
// more about an attempt (that a host has answered before, that the failure was its own)
// its user says, or decides before it asks.
package retry
