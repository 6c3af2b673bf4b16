package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
)

func TestLogTail(t *testing.T) {
	var out bytes.Buffer
	tail := NewLogTail(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var heard []LogEntry
	tail.Listen(func(e LogEntry) { heard = append(heard, e) })
	log := slog.New(tail)
	for i := range 400 {
		log.Info("line", "number", i)
	}
	log.Debug("not kept")
	entries := tail.Entries()
	if len(entries) != maxLogEntries || !strings.Contains(entries[0].Text, "number=100\n") || len(heard) != 400 {
		t.Errorf("%d lines from %q, %d heard", len(entries), entries[0].Text, len(heard))
	}
	if out.Len() != 0 {
		t.Errorf("lines of a level below the handler's passed: %q", out.String())
	}
	log.With("api_token", "s3cret").WithGroup("g").Error("refused", "authorization", "Bearer s3cret",
		"err", errors.New("get https://user:s3cret@host/x?token=s3cret&a=1: Bearer s3cret"), "Cookie", "s3cret", slog.Group("h", "password", "s3cret"))
	last := tail.Entries()[maxLogEntries-1].Text
	if strings.Contains(last, "s3cret") || !strings.Contains(last, "refused") || !strings.Contains(last, "a=1") {
		t.Errorf("the line is %q", last)
	}
	if !strings.Contains(out.String(), "refused") {
		t.Error("the record did not reach the handler")
	}
}

func TestLogsOfServer(t *testing.T) {
	var out bytes.Buffer
	s, _, _ := recorded(t, Options{Log: slog.New(slog.NewTextHandler(&out, nil))})
	post(s, "/settings/x", "no JSON")
	if !strings.Contains(out.String(), "request failed") || !strings.Contains(out.String(), "status=500") {
		t.Errorf("the log is %q", out.String())
	}
	var raw logMessage
	if err := json.Unmarshal(ask(s, "GET", "/internal/logs/raw").Body.Bytes(), &raw); err != nil || len(raw.Entries) == 0 {
		t.Fatalf("%v %v", raw, err)
	}
	var text string
	if err := json.Unmarshal(ask(s, "GET", "/internal/logs").Body.Bytes(), &text); err != nil || !strings.Contains(text, raw.Entries[0].Text) {
		t.Errorf("%q %v", text, err)
	}
}

func TestLogReaders(t *testing.T) {
	var r logReaders
	for i := range maxLogReaders + 5 {
		r.set(fmt.Sprint(i), true)
	}
	r.set("7", true)
	r.set("8", false)
	r.set("", true)
	all := r.all()
	if len(all) != maxLogReaders-1 || all[0] != "5" || all[len(all)-1] != "7" {
		t.Errorf("%d readers: %v", len(all), all)
	}
}

func TestSystemStats(t *testing.T) {
	index := 0
	device := Device{Name: "cuda:0 Test", Type: "cuda", Index: &index, Total: 1 << 40, Free: 1, HeldTotal: 2, HeldFree: 3}
	s, _, _ := recorded(t, Options{Version: "v9", Devices: func() []Device { return []Device{device, {Name: "cpu", Type: "cpu"}} }})
	var stats struct {
		System struct {
			Total    uint64 `json:"ram_total"`
			Free     uint64 `json:"ram_free"`
			Comfyrun string `json:"comfyrun_version"`
			Argv     []string
		}
		Devices []Device
	}
	w := ask(s, "GET", "/system_stats")
	if err := json.Unmarshal(w.Body.Bytes(), &stats); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "linux" && (stats.System.Free == 0 || stats.System.Total < stats.System.Free) {
		t.Errorf("memory is %d of %d", stats.System.Free, stats.System.Total)
	}
	if stats.System.Comfyrun != "v9" || len(stats.Devices) != 2 || *stats.Devices[0].Index != 0 || stats.Devices[0].Total != 1<<40 {
		t.Errorf("%s", w.Body)
	}
	if cpu := stats.Devices[1]; runtime.GOOS == "linux" && (cpu.Index != nil || cpu.Total != stats.System.Total || cpu.HeldFree != stats.System.Free) {
		t.Errorf("%+v", cpu)
	}
}

func TestSubscribeLogs(t *testing.T) {
	s, _, _ := recorded(t, Options{})
	r := httptest.NewRequest("PATCH", "http://comfy.test/internal/logs/subscribe", strings.NewReader(`{"clientId":"c1","enabled":true}`))
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if all := s.logReaders.all(); w.Code != 200 || len(all) != 1 || all[0] != "c1" {
		t.Errorf("%d %v", w.Code, all)
	}
}
