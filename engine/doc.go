// Package engine runs graphs of nodes. It knows what a node type is, how a
// workflow is checked against the types it uses, in which order its nodes run
// and what need not run again. It knows nothing of pictures, tensors or HTTP.
package engine
