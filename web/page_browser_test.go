//go:build browser

package web

import (
	"context"
	"fmt"
	"image/png"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/comfyrun/comfyrun/web/auth"
)

// browser is a tab of a real Chromium on the page of a server.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string // what the console says of errors
}

// look opens the page in a window of the given size. The test fails when the console shows an error.
func look(t *testing.T, b *bench, width, height int) *browser {
	t.Helper()
	w := tab(t, width, height)
	w.run(chromedp.Navigate(b.url+"/"), visible("#workflow-run"))
	w.until(`document.querySelector("#connection").dataset.state === "open"`)
	return w
}

// tab starts a browser with an empty page.
func tab(t *testing.T, width, height int) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.WindowSize(width, height))
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	w := &browser{t: t, ctx: ctx}
	w.run(chromedp.EmulateViewport(int64(width), int64(height)))
	messages := chromedp.Console(ctx)
	go w.listen(messages)
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, problem := range w.problems {
			t.Errorf("console: %s", problem)
		}
	})
	return w
}

func (w *browser) listen(messages iter.Seq2[chromedp.ConsoleMessage, error]) {
	for m, err := range messages {
		if err != nil {
			return
		}
		if m.IsException() || m.Type == "error" || m.Type == "warning" {
			w.mu.Lock()
			w.problems = append(w.problems, m.Text)
			w.mu.Unlock()
		}
	}
}

// forget drops the errors that a test provoked; each must hold a text.
func (w *browser) forget(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, problem := range w.problems {
		if !strings.Contains(problem, text) {
			w.t.Errorf("console: %s", problem)
		}
	}
	w.problems = nil
}

func (w *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	value(w, chromedp.Steps(actions...))
}

// value carries out an action and returns what it gives.
func value[T any](w *browser, action chromedp.Action[T]) T {
	w.t.Helper()
	ctx, stop := w.ctx, func() {}
	if chromedp.FromContext(w.ctx).Target != nil { // the first action starts the browser, which lives as long as its context
		ctx, stop = context.WithTimeout(w.ctx, 30*time.Second)
	}
	defer stop()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		shown, _ := chromedp.Run(w.ctx, chromedp.Evaluate[string]("document.body.innerText"))
		w.t.Fatalf("%v\nthe page shows: %s\nconsole: %q", err, shown, w.problems)
	}
	return v
}

func eval[T any](w *browser, script string) T {
	w.t.Helper()
	return value(w, chromedp.Evaluate[T](script))
}

// until waits for a script to say true.
func (w *browser) until(script string) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if eval[bool](w, "!!("+script+")") {
			return
		}
	}
	w.t.Fatalf("never: %s\nthe page shows: %s\nconsole: %q", script, eval[string](w, "document.body.innerText"), w.problems)
}

func click(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS(selector))
}

func visible(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.WaitVisible(chromedp.CSS(selector))
}

// set types a text into the field of a parameter, or chooses it.
func (w *browser) set(id, text string) {
	w.t.Helper()
	field := "document.querySelector(" + fmt.Sprintf("%q", "#parameter-"+id) + ")"
	if eval[string](w, field+".tagName") == "SELECT" {
		eval[string](w, fmt.Sprintf("%s.value = %q", field, text))
		return
	}
	eval[string](w, field+`.value = ""`)
	w.run(chromedp.SendKeys(chromedp.CSS("#parameter-"+id), text))
}

// picture keeps a screenshot when PICTURES names a folder.
func (w *browser) picture(name string) {
	w.t.Helper()
	dir := os.Getenv("PICTURES")
	if dir == "" {
		return
	}
	eval[bool](w, "(scrollTo(0, 0), true)")
	w.run(chromedp.Sleep(300 * time.Millisecond))
	data := value(w, chromedp.CaptureScreenshot())
	if err := os.WriteFile(filepath.Join(dir, name+".png"), data, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func TestPageRunsAWorkflow(t *testing.T) {
	b := newBench(t, true)
	w := look(t, b, 1200, 800)
	w.run(click("summary"))
	for id, text := range map[string]string{"steps": "60", "delay": "60", "seed": "9007199254740993", "preview": "jpeg"} {
		w.set(id, text)
	}
	w.run(click("#workflow-run"))
	w.until(`document.querySelector("#live progress")?.value > 0.1`)
	w.until(`document.querySelector("#live img.preview")?.naturalWidth > 0`)
	w.picture("page-running")
	w.until(`document.querySelector('#live [data-status="success"] img.result')?.naturalWidth > 0`)
	text := eval[string](w, `document.querySelector("#live").innerText`)
	if !strings.Contains(text, "seed 9007199254740993") {
		t.Errorf("the result does not show the exact seed: %q", text)
	}
	w.run(click("#live img.result"), visible("#lightbox[open]"))
	w.until(`document.querySelector("#lightbox-picture").naturalWidth > 0`)
	text = eval[string](w, `document.querySelector("#lightbox-result").textContent`)
	if !strings.Contains(text, `"seed": 9007199254740993`) || !strings.Contains(text, `"sha256"`) {
		t.Errorf("details are %s", text)
	}
	w.run(chromedp.KeyEvent(kb.Escape), chromedp.WaitNotVisible(chromedp.CSS("#lightbox")))
}

func TestPageShowsMistakes(t *testing.T) {
	b := newBench(t, true)
	w := look(t, b, 1200, 800)
	w.set("steps", "201")
	w.run(click("#workflow-run"), visible("#parameter-steps-problem"))
	w.until(`document.querySelector("#parameter-steps-problem").textContent.includes("above 200")`)
	focused := eval[string](w, `document.activeElement.id`)
	invalid := eval[string](w, `document.querySelector("#parameter-steps").getAttribute("aria-invalid")`)
	if focused != "parameter-steps" || invalid != "true" {
		t.Errorf("focus is on %s, aria-invalid is %s", focused, invalid)
	}
	w.forget("400")
}

func TestPageUploadsAPicture(t *testing.T) {
	b := newBench(t, true)
	file := filepath.Join(t.TempDir(), "pixel.png")
	if err := os.WriteFile(file, pixel(t), 0o600); err != nil {
		t.Fatal(err)
	}
	w := look(t, b, 1200, 800)
	eval[bool](w, `(() => { const s = document.querySelector("#workflow"); s.value = "invert"; return s.dispatchEvent(new Event("change")); })()`)
	w.run(visible("#parameter-photo"), chromedp.SetUploadFiles(chromedp.CSS("#parameter-photo"), []string{file}), click("#workflow-run"))
	w.until(`document.querySelector('#live [data-status="success"] img.result')?.naturalWidth === 2`)
}

func TestPageCancels(t *testing.T) {
	b := newBench(t, true)
	w := look(t, b, 1200, 800)
	for i := range 4 {
		b.do("POST", "/workflows/draw", fmt.Sprintf(`{"seed": %d, "steps": 200, "delay": 100}`, i))
	}
	w.run(click(`nav a[href="#queue"]`), visible("#view-queue"))
	w.until(`document.querySelectorAll("#queue li").length === 4`)
	w.until(`document.querySelector("#queue li progress") !== null`)
	w.until(`document.querySelector("#queue-count").textContent === "4"`)
	w.picture("page-queue")
	w.run(click("#queue li:nth-child(3) button"))
	w.until(`document.querySelectorAll("#queue li").length === 3`)
	w.run(click("#queue li:nth-child(1) button"))
	w.until(`document.querySelectorAll("#queue li").length === 2`)
	if depth := b.Queue.Depth(); depth != 2 {
		t.Errorf("%d prompts are left, want 2", depth)
	}
	if _, err := b.Queue.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The page holds one page of a long history.
func TestPageHistory(t *testing.T) {
	b := newBench(t, true)
	const prompts = 1000
	for i := range prompts {
		b.do("POST", "/workflows/draw", fmt.Sprintf(`{"seed": %d, "steps": 1}`, i))
	}
	for deadline := time.Now().Add(2 * time.Minute); b.Queue.Depth() > 0 && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	w := look(t, b, 1200, 800)
	began := time.Now()
	w.run(click(`nav a[href="#history"]`))
	w.until(`document.querySelectorAll("#history li").length === 24`)
	t.Logf("the first page of %d took %v", prompts, time.Since(began))
	w.picture("page-history")
	text := eval[string](w, `document.querySelector("#history-page").innerText`)
	if text != "1 to 24 of 1000" {
		t.Errorf("pager says %q", text)
	}
	w.run(click("#history-older"))
	w.until(`document.querySelector("#history-page").textContent === "25 to 48 of 1000"`)
	w.run(click("#history li button"), visible("#lightbox[open]"))
}

// A phone sees every view without scrolling sideways.
func TestPageOnAPhone(t *testing.T) {
	b := newBench(t, true)
	b.result("POST", "/workflows/draw?wait=30s", `{"steps": 1, "prefix": "a-rather-long-name-of-a-picture-that-does-not-fit-on-one-line-of-a-phone"}`, http.StatusOK)
	w := look(t, b, 360, 740)
	w.picture("page-phone")
	for _, view := range []string{"run", "queue", "history", "models", "health"} {
		w.run(click(fmt.Sprintf(`nav a[href="#%s"]`, view)), visible("#view-"+view), chromedp.Sleep(200*time.Millisecond))
		wide, window := eval[int](w, `document.documentElement.scrollWidth`), eval[int](w, `document.documentElement.clientWidth`)
		if wide > window {
			t.Errorf("view %s is %d wide in a window of %d", view, wide, window)
		}
	}
	text := eval[string](w, `document.querySelector("#health").innerText`)
	for _, word := range []string{"Alive", "Ready", "Version"} {
		if !strings.Contains(text, word) {
			t.Errorf("health says nothing of %s: %s", word, text)
		}
	}
}

// Every control has a name, and the views can be reached with the keyboard alone.
func TestPageIsAccessible(t *testing.T) {
	b := newBench(t, true)
	w := look(t, b, 1200, 800)
	nameless := eval[[]string](w, `[...document.querySelectorAll("button, input, select, textarea")].filter((e) =>
		!(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim())).map((e) => e.outerHTML)`)
	if len(nameless) > 0 {
		t.Errorf("controls without a name: %q", nameless)
	}
	w.run(chromedp.Focus(chromedp.CSS(`nav a[href="#queue"]`)), chromedp.KeyEvent(kb.Enter), visible("#view-queue"))
	current := eval[string](w, `document.querySelector("nav a[aria-current]").hash`)
	if current != "#queue" {
		t.Errorf("the current view is %q", current)
	}
}

// A server with tokens asks for one, where somebody opens the page itself too, and lets nobody in with a wrong one.
func TestPageAsksForAToken(t *testing.T) {
	token, hash := auth.NewToken()
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("somebody submit "+hash+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, true, func(o *Options) {
		var err error
		if o.Tokens, err = auth.Open(file, nil); err != nil {
			t.Fatal(err)
		}
	})
	w := tab(t, 1200, 800)
	field := chromedp.CSS("#token")
	w.run(chromedp.Navigate(b.url+"/"), chromedp.SendKeys(field, token+kb.Enter), visible("#workflow-run"))
	w.until(`document.querySelector("#connection").dataset.state === "open"`)
	w.run(click("#workflow-run"))
	w.until(`document.querySelector('#live [data-status="success"] img.result')?.naturalWidth > 0`)

	// The cookie goes while the page is open.
	eval[bool](w, `(fetch("/logout", { method: "POST", redirect: "manual" }), true)`)
	eval[string](w, "location.hash = 'history'")
	w.run(visible("#token-dialog"), chromedp.SendKeys(field, "wrong"+kb.Enter))
	w.until(`document.querySelector("#token-why").textContent.includes("does not take")`)
	eval[string](w, `document.querySelector("#token").value = ""`)
	w.run(chromedp.SendKeys(field, token+kb.Enter), visible("#history li"), click(`nav a[href="#health"]`), visible("#log-out"))
	w.forget("401")
}

func TestPagePicturesAreSmall(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "docs", "pictures", "page-*.png"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no pictures: %v", err)
	}
	for _, name := range files {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if info, err := file.Stat(); err != nil || info.Size() > 200<<10 {
			t.Errorf("%s is too large: %v", name, err)
		}
		if _, err := png.DecodeConfig(file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
