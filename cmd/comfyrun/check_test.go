package main

import (
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/check"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/nodes"
)

// What comfyrun nodes --json writes, --catalog reads without loss.
func TestOwnCatalogReadsBack(t *testing.T) {
	own, err := nodes.Catalog(&nodes.Runtime{Models: models.NewFolders(nil)})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(engine.ObjectInfo(own))
	if err != nil {
		t.Fatal(err)
	}
	read, err := engine.ParseObjectInfo(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range own.Types() {
		got, ok := read.Type(want.Class)
		if !ok {
			t.Errorf("%s is lost", want.Class)
			continue
		}
		if diff := cmp.Diff(plainInfo(t, want), plainInfo(t, got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", want.Class, diff)
		}
	}
}

// plainInfo is a type's entry in object_info, without regard to the order of members.
func plainInfo(t *testing.T, typ *engine.NodeType) any {
	t.Helper()
	text, err := json.Marshal(typ.Info())
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerdict(t *testing.T) {
	finding := func(s check.Severity, k engine.ErrorKind) check.Finding {
		return check.Finding{File: "w.json", Severity: s, Kind: k}
	}
	missing, wrong := finding(check.Error, check.ModelMissing), finding(check.Error, engine.TooBig)
	warning := finding(check.Warning, check.NodeUnused)
	for _, tt := range []struct {
		findings []check.Finding
		code     int
	}{
		{nil, exitDone},
		{[]check.Finding{warning}, exitDone},
		{[]check.Finding{missing, warning}, exitModel},
		{[]check.Finding{finding(check.Error, check.ModelNotPinned)}, exitModel},
		{[]check.Finding{missing, wrong}, exitUsage},
		{[]check.Finding{wrong}, exitUsage},
	} {
		if code := report(io.Discard, verdict(1, tt.findings)); code != tt.code {
			t.Errorf("%v: exit code %d, want %d", tt.findings, code, tt.code)
		}
	}
	if got, want := fmt.Sprint(verdict(3, []check.Finding{wrong, missing})), "check: not valid: 2 errors in 1 of 3 files"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
