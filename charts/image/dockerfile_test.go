package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The Dockerfile's containers run as the image's do, and its images are names without a registry.
func TestDockerfileAgrees(t *testing.T) {
	data, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	config := inputs{}.config().Config
	wanted := []string{"USER " + config.User, "WORKDIR " + config.WorkingDir, `ENTRYPOINT ["` + config.Entrypoint[0] + `"]`, "EXPOSE 8188"}
	for _, env := range config.Env[1:] { // the path is the base image's own under CUDA
		wanted = append(wanted, " "+env)
	}
	for _, want := range wanted {
		if n := strings.Count(text, want); n != 2 {
			t.Errorf("the Dockerfile has %q %d times, want it in both targets", want, n)
		}
	}
	images := regexp.MustCompile(`(?m)^(?:ARG [A-Z]+_IMAGE=|FROM )(\S+)`).FindAllStringSubmatch(text, -1)
	if len(images) != 6 {
		t.Errorf("found %d images, want 6: %v", len(images), images)
	}
	for _, image := range images {
		if host, _, ok := strings.Cut(image[1], "/"); ok && strings.ContainsAny(host, ".:") || strings.HasSuffix(image[1], ":latest") {
			t.Errorf("image %s names a registry, or no version", image[1])
		}
	}
}
