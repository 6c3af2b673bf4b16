//go:build slow

package archtest

// slow says that tests may take minutes.
const slow = true
