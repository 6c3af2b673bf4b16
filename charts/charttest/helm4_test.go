//go:build render || cluster

package charttest

// helms are the programs that must take the chart.
var helms = []string{"helm3", "helm4"}
