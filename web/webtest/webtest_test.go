package webtest

import "testing"

func TestCatalog(t *testing.T) {
	base := Base(t)
	c := Catalog(t, base)
	for _, class := range []string{"FxSteps", "FxEcho", "FxBig", "FxValidated", "FxSleep", "FxShow", "FxBlock", "FxSwitch", "FxVolatile",
		"FxExpand", "FxList", "EmptyImage", "ImageInvert", "SaveImage", "PreviewImage", "LoadImage", "PrimitiveInt"} {
		if _, ok := c.Type(class); !ok {
			t.Errorf("there is no %s", class)
		}
	}
}
