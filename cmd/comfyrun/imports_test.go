package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/comfyrun/comfyrun/"

// imports lists every package, bottom up, with the packages of this module that it may import; a trailing /... stands for
// the packages below too. Imports point up in this list only, and a package that is not in it fails the test.
var imports = []struct{ pkg, imports string }{
	{"engine/cputest", ""},
	{"workflows", ""},
	{"workflows/ui", "workflows"},
	{"workflows/diff", "workflows workflows/ui"},
	{"workflows/diff/difftest", "workflows"},
	{"workflows/merge", "workflows workflows/diff workflows/ui"},
	{"engine/tensor", ""},
	{"engine/tokenizer", ""},
	{"engine/models", ""},
	{"engine/models/demo", "engine/models"},
	{"engine/models/fetch", "engine/models"},
	{"engine/models/live", "engine/models engine/models/fetch"},
	{"engine/models/s3", "engine/models engine/models/fetch"},
	{"engine/imagefile", "engine/tensor"},
	{"engine/compare", "engine/imagefile"},
	{"engine/golden", "engine/compare engine/imagefile"},
	{"engine", "workflows"},
	{"engine/onnx", "engine/tensor"},
	{"engine/weights", "engine/tensor"},
	{"engine/weights/weightstest", "engine/tensor engine/weights"},
	{"engine/sampling", "engine/tensor"},
	{"engine/policy", "engine"},
	{"engine/inputs", "engine workflows"},
	{"engine/check", "engine engine/policy workflows workflows/ui"},
	{"engine/queue", "engine workflows"},
	{"engine/logging", ""},
	{"engine/library", "engine workflows workflows/ui"},
	{"engine/ort/winograd", ""},
	{"engine/nn", "engine/onnx engine/ort/winograd engine/tensor"},
	{"engine/ort/gpu", ""},
	{"engine/ort/gpu/gputest", ""},
	{"engine/ort", "engine/onnx engine/tensor engine/ort/gpu engine/ort/winograd"},
	{"engine/ort/orttest", "engine/ort"},
	{"engine/arch", "engine/nn engine/tensor"},
	{"engine/arch/archtest", "engine/arch engine/nn engine/onnx engine/ort/winograd engine/tensor engine/weights/weightstest"},
	{"engine/diffusion", "engine/arch engine/nn engine/onnx engine/ort engine/ort/winograd engine/weights engine/tokenizer engine/sampling engine/tensor"},
	{"nodes", "engine engine/diffusion engine/models engine/imagefile engine/sampling engine/tensor engine/weights workflows"},
	{"nodes/definitions", "engine workflows"},
	{"engine/queue/queuetest", ""},
	{"engine/worker", "engine engine/queue workflows"},
	{"engine/metrics", "engine/queue engine/worker"},
	{"engine/tracing", "engine engine/queue engine/worker"},
	{"web/auth", ""},
	{"web/remote", "engine engine/imagefile engine/queue workflows"},
	{"web/webtest", "engine engine/imagefile engine/tensor"},
	{"web", "engine engine/library engine/logging engine/metrics engine/policy engine/queue engine/worker engine/models engine/imagefile engine/tensor engine/tracing web/auth web/remote workflows"},
	{"charts", "workflows engine/models"},
	{"charts/image", ""},
	{"charts/charttest", ""},
	{"tools/gpubench", "engine/diffusion engine/nn engine/ort engine/ort/gpu engine/sampling engine/tensor engine/weights engine/weights/weightstest"},
	{"cmd/comfyrun", "workflows/... engine/... nodes/... web/... charts/..."},
}

// homes gives each third-party package, by the beginning of its path, the packages (rarely more than one) that may import
// it; "" stands for any, "test" for tests only.
var homes = map[string]string{
	"github.com/HugoSmits86/nativewebp": "engine/imagefile",
	"github.com/dlclark/regexp2":        "nodes",
	"github.com/yalue/onnxruntime_go":   "engine/ort",
	"github.com/pelletier/go-toml/v2":   "engine/models engine/library engine/policy engine/golden",
	"go.yaml.in/yaml/v2":                "engine/models web charts cmd/comfyrun",
	"golang.org/x/text":                 "engine/tokenizer",
	"golang.org/x/image":                "engine/imagefile",
	"golang.org/x/sys":                  "engine/weights",
	"github.com/nats-io/nats-server/v2": "engine/queue engine/queue/queuetest",
	"github.com/nats-io/nats.go":        "engine/queue",
	"github.com/gin-gonic/gin":          "web",
	"github.com/gorilla/websocket":      "web web/webtest",
	"github.com/prometheus":             "",
	"github.com/minio/minio-go/v7":      "engine/models/s3",
	"github.com/google/uuid":            "",
	"go.opentelemetry.io/otel":          "",
	"go.opentelemetry.io/proto/otlp":    "test",
	"google.golang.org/protobuf":        "test",
	"github.com/chromedp":               "test",
	"github.com/getkin/kin-openapi":     "test",
	"golang.org/x/time":                 "",
	"golang.org/x/sync":                 "",
	"golang.org/x/term":                 "cmd/comfyrun",
	"github.com/spf13/cobra":            "cmd/comfyrun",
	"github.com/spf13/pflag":            "cmd/comfyrun",
	"github.com/vbauerster/mpb/v8":      "cmd/comfyrun",
	"github.com/google/go-cmp":          "test",
	"github.com/rogpeppe/go-internal":   "test",

	"github.com/google/go-containerregistry": "charts/image",
}

// native are the packages that may need cgo, themselves or through an import; all others build with CGO_ENABLED=0.
var native = []string{"engine/ort", "engine/ort/gpu", "engine/ort/orttest", "engine/ort/winograd", "engine/diffusion", "nodes", "cmd/comfyrun", "tools/gpubench"}

// listed is what the tests read of `go list -json`.
type listed struct {
	Dir, ImportPath, Doc               string
	Standard                           bool
	GoFiles, CgoFiles, TestGoFiles     []string
	XTestGoFiles                       []string
	Imports, TestImports, XTestImports []string
	Deps                               []string
}

func (p listed) name() string { return strings.TrimPrefix(p.ImportPath, module) }

// goList runs `go list -json` at the top of the module.
func goList(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json"}, args...)...)
	cmd.Dir = "../.."
	var problem strings.Builder
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, problem.String())
	}
	var packages []listed
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := decoder.Decode(&p); err == io.EOF {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func TestImportPolicy(t *testing.T) {
	for _, problem := range importProblems(goList(t, "./...")) {
		t.Error(problem)
	}
}

// importProblems says what breaks the policy.
func importProblems(packages []listed) []string {
	var problems []string
	for _, p := range packages {
		row := slices.IndexFunc(imports, func(r struct{ pkg, imports string }) bool { return r.pkg == p.name() })
		if row < 0 {
			problems = append(problems, fmt.Sprintf("%s is not in the policy: give it a row", p.name()))
			continue
		}
		for _, path := range p.Imports {
			if problem := importProblem(p.name(), path, strings.Fields(imports[row].imports)); problem != "" {
				problems = append(problems, problem)
			}
		}
		for _, path := range append(p.TestImports, p.XTestImports...) {
			if thirdParty(path) && home(path) != "test" && importProblem(p.name(), path, nil) != "" {
				problems = append(problems, fmt.Sprintf("a test of %s imports %s", p.name(), path))
			}
		}
	}
	return problems
}

func importProblem(pkg, path string, allowed []string) string {
	local, ours := strings.CutPrefix(path, module)
	switch {
	case ours && !slices.ContainsFunc(allowed, func(a string) bool { return covers(a, local) }):
		return fmt.Sprintf("%s imports %s, which the policy does not allow", pkg, local)
	case ours || !thirdParty(path):
		return ""
	}
	if where := home(path); where != "" && !slices.Contains(strings.Fields(where), pkg) {
		return fmt.Sprintf("%s imports %s, whose home is %s", pkg, path, where)
	}
	return ""
}

func covers(pattern, pkg string) bool {
	tree, below := strings.CutSuffix(pattern, "/...")
	return pkg == tree || below && strings.HasPrefix(pkg, tree+"/")
}

// thirdParty reports whether a path is neither this module's nor the standard library's.
func thirdParty(path string) bool {
	host, _, _ := strings.Cut(path, "/")
	return strings.Contains(host, ".") && !strings.HasPrefix(path, module)
}

// home returns where a third-party package may be imported; a package without a row has no home.
func home(path string) string {
	for prefix, where := range homes {
		if path == prefix || strings.HasPrefix(path, prefix+"/") {
			return where
		}
	}
	return "nowhere yet"
}

func TestPolicyPointsDown(t *testing.T) {
	for i, row := range imports {
		for _, allowed := range strings.Fields(row.imports) {
			above := slices.ContainsFunc(imports[:i], func(r struct{ pkg, imports string }) bool { return covers(allowed, r.pkg) })
			if !above {
				t.Errorf("%s may import %s, which is not above it in the policy", row.pkg, allowed)
			}
		}
	}
}

func TestPolicyCatches(t *testing.T) {
	for _, tt := range []struct {
		pkg, path string
		test, ok  bool
	}{
		{"engine", module + "workflows", false, true},
		{"engine", module + "engine/tensor", false, false},
		{"engine", module + "engine/tensor", true, true},
		{"web", module + "engine/ort", false, false},
		{"nodes", module + "engine/ort", false, false},
		{"workflows", "encoding/json", false, true},
		{"workflows", "github.com/spf13/cobra", false, false},
		{"workflows", "github.com/google/go-cmp/cmp", true, true},
		{"workflows", "github.com/google/go-cmp/cmp", false, false},
		{"workflows", "github.com/unknown/thing", true, false},
		{"engine/common", "fmt", false, false},
	} {
		p := listed{ImportPath: module + tt.pkg, Imports: []string{tt.path}}
		if tt.test {
			p.Imports, p.TestImports = nil, p.Imports
		}
		if problems := importProblems([]listed{p}); (len(problems) == 0) != tt.ok {
			t.Errorf("%+v: problems %q", tt, problems)
		}
	}
}

// Packages outside the native list, and all they import, hold no cgo file.
func TestPureGo(t *testing.T) {
	cgo := map[string]bool{}
	packages := goList(t, "-deps", "./...")
	for _, p := range packages {
		cgo[p.ImportPath] = !p.Standard && len(p.CgoFiles) > 0
	}
	// The names and weights of this operator need no cgo, only the operator itself does; make test-pure builds what
	// imports them without.
	delete(cgo, module+"engine/ort/winograd")
	if !cgo["github.com/yalue/onnxruntime_go"] {
		t.Error("the test does not see the cgo files of onnxruntime_go")
	}
	for _, p := range packages {
		if !strings.HasPrefix(p.ImportPath, module) || slices.Contains(native, p.name()) {
			continue
		}
		for _, dep := range append(p.Deps, p.ImportPath) {
			if cgo[dep] {
				t.Errorf("%s needs cgo through %s", p.name(), dep)
			}
		}
	}
}
