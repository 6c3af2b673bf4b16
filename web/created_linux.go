package web

import (
	"io/fs"
	"syscall"
)

// created is what Python on Linux calls a file's creation: the last change of its entry.
func created(info fs.FileInfo) seconds {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return seconds(stat.Ctim.Nano())
	}
	return seconds(info.ModTime().UnixNano())
}
