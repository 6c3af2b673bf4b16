//go:build browser

package main

import (
	"context"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/comfyrun/comfyrun/engine/models/demo"
)

var screenshots = flag.String("screenshots", "", "folder to write screenshots of the editor into")

// frontendsDir is where `make test-browser` unpacks ComfyUI's editor, a folder per version.
const frontendsDir = "../../.cache/frontend"

// ownExceptions are those that a version of the editor throws whatever server it talks to: fed with the recorded answers of
// ComfyUI itself, it throws them too.
var ownExceptions = map[string]string{
	// From the change of a setting that leads to another, while the editor registers them one by one.
	"1.27.10": "Uncaught (in promise) TypeError: Cannot read properties of undefined (reading 'id')",
}

// TestFrontend opens ComfyUI's own editor in Chromium, lets it run a default workflow and looks for the picture on the
// node that saves it.
func TestFrontend(t *testing.T) {
	for _, version := range []string{"1.27.10", "1.58.1"} {
		t.Run(version, func(t *testing.T) {
			static, err := filepath.Abs(filepath.Join(frontendsDir, version, "comfyui_frontend_package", "static"))
			if err != nil {
				t.Fatal(err)
			}
			models := t.TempDir()
			// The editor's first workflow names this checkpoint.
			for _, name := range []string{"v1-5-pruned-emaonly-fp16.safetensors", demo.Name} {
				link(t, "../../engine/models/demo/"+demo.Name, filepath.Join(models, "checkpoints", name))
			}
			server := start(t, t.TempDir(), "serve", "--listen", "127.0.0.1:0", "--frontend", static, "--models", models)
			// Who has been here before is shown the first workflow instead of a choice of templates.
			server.post("/settings", map[string]any{"Comfy.TutorialCompleted": true}, nil)
			b := browse(t)
			do(b, chromedp.Navigate(server.url+"/"))
			b.until(`window.app && app.graph && app.graph._nodes && app.graph._nodes.length >= 7`)
			b.until(`Object.keys(LiteGraph.registered_node_types).length > 200`)
			b.registered(server)
			if version != "1.27.10" { // the first workflow of later versions is for a model that is not supported
				workflow, err := json.Marshal(demoWorkflow(t))
				if err != nil {
					t.Fatal(err)
				}
				do(b, chromedp.Evaluate[chromedp.Void]("app.loadApiJson("+string(workflow)+", 'default'), undefined"))
				b.until(`app.graph._nodes.length === 7`)
			}
			// Two processor cores draw the same graph in seconds when it is smaller.
			do(b, chromedp.Evaluate[bool](`
				for (const n of app.graph._nodes) for (const w of n.widgets || []) {
					if (w.name === 'steps') w.value = 4
					if (w.name === 'width' || w.name === 'height') w.value = 128
				}
				// What is outside of the view is not drawn, and its picture not fetched.
				app.canvas.centerOnNode(app.graph._nodes.find(n => n.type === 'SaveImage'))
				app.queuePrompt(0); true`))
			b.until(`(app.graph._nodes.find(n => n.type === 'SaveImage').imgs || []).some(i => i.naturalWidth === 128)`)
			b.shoot("frontend-" + version + ".png")
			if report := strings.TrimSpace(b.errors.String()); report != ownExceptions[version] {
				t.Errorf("the page reported:\n%s\nwant:\n%s", report, ownExceptions[version])
			}
		})
	}
}

func link(t *testing.T, old, name string) {
	t.Helper()
	old, err := filepath.Abs(old)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(old, name); err != nil {
		t.Fatal(err)
	}
}

// browser is a Chromium with one page.
type browser struct {
	t      *testing.T
	ctx    context.Context
	errors lines // exceptions that the page did not catch
}

// browse starts a Chromium. It is told to go without a sandbox, which root cannot have.
func browse(t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.WindowSize(1400, 900))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	b := &browser{t: t, ctx: ctx}
	do(b, chromedp.Navigate("about:blank"))
	go func() {
		for m, err := range chromedp.Console(ctx) {
			if err != nil {
				return
			}
			if m.IsException() {
				b.errors.add(m.Text)
			}
		}
	}()
	return b
}

// do carries out an action and returns its value.
func do[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, stop := b.ctx, func() {}
	if chromedp.FromContext(b.ctx).Target != nil { // the first action starts the browser, which lives as long as its context
		ctx, stop = context.WithTimeout(b.ctx, time.Minute)
	}
	defer stop()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// until waits for a JavaScript condition.
func (b *browser) until(condition string) {
	b.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if do(b, chromedp.Evaluate[bool]("(() => { try { return !!("+condition+") } catch { return false } })()")) {
			return
		}
	}
	state := do(b, chromedp.Evaluate[string]("document.body.innerText.slice(0, 2000)"))
	b.t.Fatalf("never: %s\nthe page shows: %s\nerrors: %s", condition, state, &b.errors)
}

// registered checks that the editor took every class that the server offers.
func (b *browser) registered(server *child) {
	b.t.Helper()
	var offered map[string]json.RawMessage
	server.get("/object_info", &offered)
	for _, class := range do(b, chromedp.Evaluate[[]string]("Object.keys(LiteGraph.registered_node_types)")) {
		delete(offered, class)
	}
	if len(offered) > 0 {
		b.t.Errorf("the editor did not take %v", slices.Sorted(maps.Keys(offered)))
	}
}

// shoot keeps a picture of the page when the test was asked for it.
func (b *browser) shoot(name string) {
	b.t.Helper()
	do(b, chromedp.Sleep(500*time.Millisecond))
	picture := do(b, chromedp.CaptureScreenshot())
	if *screenshots == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name), picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
