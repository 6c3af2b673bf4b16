package web

import (
	"net/http"
	"path"
	"strings"
)

const (
	missingPictureAge = "public, max-age=3600"
	pictureAge        = "public, max-age=86400"
	noCache           = "no-cache"
)

// cacheControl is what ComfyUI says about an answer that says nothing itself: by the path, not the content. Scripts,
// styles and indexes are asked for each time, pictures are kept for a day. "" is nothing.
func cacheControl(urlPath string, status int) string {
	last := path.Base(urlPath)
	if strings.HasSuffix(urlPath, ".js") || strings.HasSuffix(urlPath, ".css") ||
		strings.HasPrefix(last, "index") && strings.HasSuffix(last, ".json") {
		return noCache
	}
	if !picturePath(urlPath) {
		return ""
	}
	switch {
	case status == http.StatusNotFound:
		return missingPictureAge
	case status >= 200 && status <= 206, status == http.StatusMovedPermanently, status == http.StatusPermanentRedirect:
		return pictureAge
	case status == http.StatusFound, status == http.StatusSeeOther, status == http.StatusTemporaryRedirect:
		return noCache
	}
	return ""
}

func picturePath(urlPath string) bool {
	switch strings.ToLower(path.Ext(urlPath)) {
	case ".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp":
		return true
	}
	return false
}
