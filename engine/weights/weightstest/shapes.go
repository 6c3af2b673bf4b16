package weightstest

import "github.com/comfyrun/comfyrun/engine/tensor"

// Shapes returns the names and shapes of a synthetic checkpoint's tensors
// without making the file.
func Shapes(name string) (map[string]tensor.Shape, error) {
	l, err := load(name)
	if err != nil {
		return nil, err
	}
	shapes := map[string]tensor.Shape{}
	for _, e := range l.Tensors {
		shapes[e.Name] = e.Shape
	}
	return shapes, nil
}
