//go:build browser

package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/comfyrun/comfyrun/engine/models/demo"
)

var screenshots = flag.String("screenshots", "", "folder to write screenshots of the editor into")

// frontendsDir is where `make test-browser` unpacks ComfyUI's editor, a folder per version.
const frontendsDir = "../../.cache/frontend"

// TestFrontend opens ComfyUI's own editor in Chromium, lets it run its default workflow and looks for the picture on the
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
			link(t, "../../engine/models/demo/"+demo.Name, filepath.Join(models, "checkpoints", "v1-5-pruned-emaonly-fp16.safetensors"))
			server := start(t, t.TempDir(), "serve", "--listen", "127.0.0.1:0", "--frontend", static, "--models", models)
			b := browse(t)
			b.run(chromedp.Navigate(server.url + "/"))
			b.until(`window.app && app.graph && app.graph._nodes && app.graph._nodes.length >= 7`)
			b.until(`Object.keys(LiteGraph.registered_node_types).length > 200`)
			// The same graph, smaller, so that two processor cores draw it in seconds.
			b.run(chromedp.Evaluate(`
				for (const n of app.graph._nodes) for (const w of n.widgets || []) {
					if (w.name === 'steps') w.value = 4
					if (w.name === 'width' || w.name === 'height') w.value = 128
				}
				app.queuePrompt(0); true`, nil))
			b.until(`(app.graph._nodes.find(n => n.type === 'SaveImage').imgs || []).some(i => i.naturalWidth === 128)`)
			b.shoot("frontend-" + version + ".png")
			for _, line := range b.errors {
				t.Errorf("console: %s", line)
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
	errors []string // that the page threw
}

// browse starts a Chromium. It is told to go without a sandbox, which root cannot have.
func browse(t *testing.T) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.WindowSize(1400, 900))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	ctx, stop = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(stop)
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, func(event any) {
		if thrown, ok := event.(*runtime.EventExceptionThrown); ok {
			b.errors = append(b.errors, thrown.ExceptionDetails.Error())
		}
	})
	return b
}

func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// until waits for a JavaScript condition.
func (b *browser) until(condition string) {
	b.t.Helper()
	var holds bool
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		b.run(chromedp.Evaluate("(() => { try { return !!("+condition+") } catch { return false } })()", &holds))
		if holds {
			return
		}
	}
	var state string
	b.run(chromedp.Evaluate("document.body.innerText.slice(0, 2000)", &state))
	b.t.Fatalf("never: %s\nthe page shows: %s\nerrors: %s", condition, state, strings.Join(b.errors, "\n"))
}

// shoot keeps a picture of the page when the test was asked for it.
func (b *browser) shoot(name string) {
	b.t.Helper()
	var picture []byte
	b.run(chromedp.Sleep(500*time.Millisecond), chromedp.CaptureScreenshot(&picture))
	if *screenshots == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name), picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
