//go:build !linux

package web

import "io/fs"

// created stands in for a file's creation, which has no common name on other systems: its last modification.
func created(info fs.FileInfo) seconds { return seconds(info.ModTime().UnixNano()) }
