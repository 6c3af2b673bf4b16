package web

import (
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/gin-gonic/gin"
)

const (
	// comfyVersion is the version of ComfyUI whose API this is; editors ask for it.
	comfyVersion = "0.3.64"
	// frontendVersion is the version of the editor that goes with it.
	frontendVersion = "1.27.10"
)

const cpuType = "cpu"

// Device is an entry of GET /system_stats: what runs models, with its memory in bytes.
type Device struct {
	Name      string `json:"name"`
	Type      string `json:"type"`  // "cuda", "webgpu"; "cpu": sizes are the machine's, whatever these say
	Index     *int   `json:"index"` // nil for the processor
	Total     uint64 `json:"vram_total"`
	Free      uint64 `json:"vram_free"`
	HeldTotal uint64 `json:"torch_vram_total"` // what this program has taken of it
	HeldFree  uint64 `json:"torch_vram_free"`  // and does not use at the moment
}

func (s *Server) systemRoutes() {
	api, bare := s.api(), s.bare()
	api.get("/system_stats", read, s.systemStats)
	api.get("/extensions", read, s.extensions)
	for _, path := range []string{"/i18n", "/workflow_templates", "/global_subgraphs", "/node_replacements"} {
		api.get(path, read, s.nothing) // what custom nodes would bring
	}
	api.get("/global_subgraphs/:id", read, func(c *gin.Context) { answerEmpty(c, http.StatusNotFound) })
	bare.get("/internal/logs", admin, s.logText)
	bare.get("/internal/logs/raw", admin, s.logEntries)
	bare.handle(http.MethodPatch, "/internal/logs/subscribe", admin, s.subscribeLogs)
	if s.Frontend != "" {
		api.get("/", open, s.editorPage)
	}
}

func (s *Server) nothing(c *gin.Context) { s.answerJSON(c, http.StatusOK, struct{}{}) }

// systemStats answers with what the machine is and has. The fields for versions of Python and of what it imports say
// what stands in their place. The arguments of the command line are not told: they may hold secrets.
func (s *Server) systemStats(c *gin.Context) {
	type system struct {
		OS        string   `json:"os"`
		Total     uint64   `json:"ram_total"`
		Free      uint64   `json:"ram_free"`
		Comfy     string   `json:"comfyui_version"`
		Comfyrun  string   `json:"comfyrun_version"`
		Frontend  string   `json:"required_frontend_version"`
		Templates *string  `json:"installed_templates_version"`
		Wanted    *string  `json:"required_templates_version"`
		Python    string   `json:"python_version"`
		Torch     string   `json:"pytorch_version"`
		Embedded  bool     `json:"embedded_python"`
		Args      []string `json:"argv"`
	}
	total, free := memory()
	s.answerJSON(c, http.StatusOK, struct {
		System  system   `json:"system"`
		Devices []Device `json:"devices"`
	}{system{
		OS: osName(), Total: total, Free: free,
		Comfy: comfyVersion, Comfyrun: s.Version, Frontend: frontendVersion,
		Python: "none (" + runtime.Version() + ")", Torch: "none (onnxruntime)",
		Args: []string{filepath.Base(os.Args[0])},
	}, s.devices(total, free)})
}

// devices asks the option, or tells of the processor, whose memory is the machine's.
func (s *Server) devices(total, free uint64) []Device {
	list := []Device{{Name: cpuType, Type: cpuType}}
	if s.Devices != nil {
		list = s.Devices()
	}
	for i, d := range list {
		if d.Type == cpuType {
			list[i] = Device{Name: d.Name, Type: d.Type, Total: total, Free: free, HeldTotal: total, HeldFree: free}
		}
	}
	return list
}

func osName() string {
	if runtime.GOOS == "windows" {
		return "nt"
	}
	return "posix"
}

// logText answers with the log as one text.
func (s *Server) logText(c *gin.Context) {
	var text strings.Builder
	for _, e := range s.logs.Entries() {
		text.WriteString(e.Time + " - " + e.Text)
	}
	s.answerJSON(c, http.StatusOK, text.String())
}

// logScreen is the size of the terminal that lines are meant for.
type logScreen struct {
	Columns int `json:"cols"`
	Rows    int `json:"rows"`
}

// logMessage is a part of the log: what GET /internal/logs/raw answers and what subscribers get.
type logMessage struct {
	Entries []LogEntry `json:"entries"`
	Size    logScreen  `json:"size"`
}

func newLogMessage(entries []LogEntry) logMessage { return logMessage{entries, logScreen{80, 24}} }

// logEntries answers with the log line by line.
func (s *Server) logEntries(c *gin.Context) {
	s.answerJSON(c, http.StatusOK, newLogMessage(s.logs.Entries()))
}

// subscribeLogs makes a client's socket get the lines that come, or no more of them.
func (s *Server) subscribeLogs(c *gin.Context) {
	var request struct {
		Client  string `json:"clientId"`
		Enabled bool   `json:"enabled"`
	}
	if err := bodyJSON(c, &request); err != nil {
		s.answerTrouble(c, err)
		return
	}
	s.logReaders.set(request.Client, request.Enabled)
	answerEmpty(c, http.StatusOK)
}
