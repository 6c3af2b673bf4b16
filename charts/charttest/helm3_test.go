//go:build (charts || keda) && !render && !cluster

package charttest

// helms are the programs that must take the chart: Helm 4 takes long to build, and is left to the tag render.
var helms = []string{"helm3"}
