//go:build !slow

package nodes

// withFullSize is true for the slow tests.
const withFullSize = false
