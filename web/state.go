package web

import (
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"time"
)

// fileState is what the routes of files, settings and the log keep between requests.
type fileState struct {
	folders      map[string]*folder // by type: input, output, temp
	users        *folder            // of all users, one directory each
	editor       *folder            // of ComfyUI's editor; its dir is "" if there is none
	uploads      sync.Mutex
	settingsLock sync.Mutex
	renders      chan struct{} // as many as may decode pictures at a time
	logs         *LogTail
	logReaders   logReaders
	patience     time.Duration // with slow clients
}

// openFolders opens the folders of Dirs, and makes those that are missing.
func (s *Server) openFolders() error {
	s.folders = map[string]*folder{
		inputFolder: {dir: s.Dirs.Input}, outputFolder: {dir: s.Dirs.Output}, tempFolder: {dir: s.Dirs.Temp},
	}
	s.users, s.editor = &folder{dir: s.Dirs.User}, &folder{dir: s.Frontend, given: true}
	s.renders = make(chan struct{}, max(runtime.GOMAXPROCS(0)/2, 1))
	s.patience = patience
	for _, f := range s.allFolders() {
		if f.dir == "" {
			continue
		}
		if _, err := f.open(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) allFolders() []*folder {
	return []*folder{s.folders[inputFolder], s.folders[outputFolder], s.folders[tempFolder], s.users, s.editor}
}

func (s *Server) closeFolders() error {
	var all []error
	for _, f := range s.allFolders() {
		all = append(all, f.close())
	}
	return errors.Join(all...)
}

// keepLog makes the server's log keep its last lines, unless the option's handler does already.
func (s *Server) keepLog() {
	if tail, ok := s.Log.Handler().(*LogTail); ok {
		s.logs = tail
		return
	}
	s.logs = NewLogTail(s.Log.Handler())
	s.Log = slog.New(s.logs)
}
