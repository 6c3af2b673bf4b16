//go:build slow

package nodes

// withFullSize adds the case with real widths: minutes, 2.1 GB of checkpoint
// and twice that of converted weights.
const withFullSize = true
