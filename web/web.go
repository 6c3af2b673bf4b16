// Package web serves ComfyUI's HTTP API and websocket on a queue: the routes that its
// clients and its editor know, and those that a service needs beside them.
//
// A Server only accepts, lists and tells: prompts are checked against the
// catalogue, put on the queue, and executed by whoever takes them from there
// (engine/worker), in this process or in another one. What happens to a prompt
// comes back as queue events, which the hub hands to the sockets that want them.
//
// # Vocabulary
//
// A client is what connects a socket; its sid is the clientId that it chose or
// was given. A user is whose settings and files are kept. A scope is what a
// token allows: submit, read or admin. A named workflow is a file that the
// server offers as a route of its own.
package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/logging"
	"github.com/comfyrun/comfyrun/engine/metrics"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/policy"
	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/web/auth"
	"github.com/comfyrun/comfyrun/web/remote"
)

// Dirs are the folders that the server reads and writes for its clients.
type Dirs struct{ Input, Output, Temp, User string }

// Options are what a server is made of. Queue, Catalog, Models and Dirs are
// needed; the zero value of everything else is a good choice.
type Options struct {
	Queue   *queue.Queue
	Catalog func() *engine.Catalog // of this moment; asked for at each use
	Models  *models.Folders
	Dirs    Dirs
	Version string // of this program

	Log       *slog.Logger // nil: nothing is logged
	MaxUpload int64        // bytes of a request's body; 0: 100 MiB
	Frontend  string       // folder of ComfyUI's editor; "": the built-in page is all there is
	Workflows string       // folder of named workflows; "": none are
	MultiUser bool         // users are told apart by the comfy-user header
	CORS      string       // origin whose pages may call, "*": any; "": the Origin and Host of a request must agree
	Compress  bool         // compress answers for clients that accept it

	Tokens   *auth.File       // who may do what; nil: anybody may do anything
	Policy   *policy.Policy   // what workflows may do; nil: everything
	Metrics  *metrics.Metrics // what is counted and GET /metrics tells; nil: nothing
	Ready    *Readiness       // what GET /readyz tells; nil: ready from the start
	Webhooks *remote.Webhooks // who is told of prompts that end; nil: prompts cannot ask for it. The caller runs it.
	Inputs   *remote.Inputs   // pictures that prompts name by URL; nil: they are refused

	// Unsupported says why ComfyUI has a node type and the catalogue does not. Nil: nobody knows.
	Unsupported func(class string) (reason string, known bool)

	Copies Copies // of saved pictures that are not in Dirs; nil: there are none

	// Devices are the entries of GET /system_stats that hold models. Nil: the processor and the machine's memory.
	Devices func() []Device

	// Explain may say more about what is wrong with a workflow, by changing the Details of its errors. Nil: there is no more to say.
	Explain func(*engine.InvalidError)

	// Free is told to forget the models, the node results, or both. Nil: nothing to forget.
	Free func(models, results bool)
}

// Copies holds pictures that workers on other machines have saved.
type Copies interface {
	// Fetch writes a file of a kind, "output" or "temp"; the name is its path below the folder of the kind, with slashes. The error is
	// an fs.ErrNotExist when there is none.
	Fetch(ctx context.Context, kind, name string, w io.Writer) error
}

// defaultMaxUpload is ComfyUI's.
const defaultMaxUpload = 100 << 20

// Server answers requests. Close it when no more come.
type Server struct {
	Options
	fileState
	socketState
	callState
	authState
	router *gin.Engine
}

// New makes a server. The error says which option cannot be used.
func New(o Options) (*Server, error) {
	if o.Queue == nil || o.Catalog == nil || o.Models == nil {
		return nil, errors.New("make server: queue, catalogue and models are needed")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxUpload == 0 {
		o.MaxUpload = defaultMaxUpload
	}
	s := &Server{Options: o}
	s.keepLog()
	s.Log = slog.New(logging.Redact(s.Log.Handler())) // also for those who read the log over HTTP
	if err := s.openFolders(); err != nil {
		s.closeFolders()
		return nil, fmt.Errorf("make server: %w", err)
	}
	if err := s.openLibrary(); err != nil {
		s.closeFolders()
		return nil, fmt.Errorf("make server: %w", err)
	}
	if err := s.openHub(); err != nil {
		s.stopWatching()
		s.closeFolders()
		return nil, fmt.Errorf("make server: %w", err)
	}
	s.Metrics.CountSockets(s.hub.openSockets)
	s.route()
	return s, nil
}

// Handler answers the requests of an http.Server.
func (s *Server) Handler() http.Handler { return plainPaths(s.router) }

// Close lets go of sockets and folders.
func (s *Server) Close() error {
	s.stopWatching()
	s.closeHub()
	return s.closeFolders()
}
