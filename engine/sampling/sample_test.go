package sampling

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// The list that ComfyUI shows, in its order.
func TestSamplersList(t *testing.T) {
	want := strings.Fields(`euler euler_cfg_pp euler_ancestral euler_ancestral_cfg_pp heun heunpp2 dpm_2
		dpm_2_ancestral lms dpm_fast dpm_adaptive dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp dpmpp_sde
		dpmpp_sde_gpu dpmpp_2m dpmpp_2m_cfg_pp dpmpp_2m_sde dpmpp_2m_sde_gpu dpmpp_2m_sde_heun
		dpmpp_2m_sde_heun_gpu dpmpp_3m_sde dpmpp_3m_sde_gpu ddpm lcm ipndm ipndm_v deis res_multistep
		res_multistep_cfg_pp res_multistep_ancestral res_multistep_ancestral_cfg_pp gradient_estimation
		gradient_estimation_cfg_pp er_sde seeds_2 seeds_3 sa_solver sa_solver_pece ddim uni_pc uni_pc_bh2`)
	if got := Samplers(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	want = strings.Fields("simple sgm_uniform karras exponential ddim_uniform beta normal linear_quadratic kl_optimal")
	if got := Schedulers(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestNeedsUncond(t *testing.T) {
	for _, name := range Samplers() {
		if got, want := NeedsUncond(name), strings.HasSuffix(name, "_cfg_pp"); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if NeedsUncond("nothing") {
		t.Error("an unknown sampler needs nothing")
	}
}

// testRun is a short run whose denoiser always sees the same clean latent.
func testRun(sampler string) (Run, Denoiser) {
	m := NewDiscrete(EPS, false)
	x := Noise(tensor.Shape{1, 4, 4, 4}, 1, nil)
	for i := range x.Data {
		x.Data[i] *= m.SigmaMax()
	}
	return Run{Model: m, Sampler: sampler, Sigmas: Karras(5, .03, 14.6, 7), X: x, Seed: 1},
		func(_ context.Context, x *tensor.Tensor, _ float32) (Denoised, error) {
			return Denoised{X: tensor.Full(.5, x.Shape...), Uncond: tensor.Full(.5, x.Shape...)}, nil
		}
}

// Whatever the sampler: when the prediction is certain, the result is it. dpm_*
// and uni_pc stop a little earlier, so their noise is left over.
func TestSamplersReachTheCertainPrediction(t *testing.T) {
	for _, name := range Samplers() {
		r, d := testRun(name)
		got, err := Sample(t.Context(), r, d)
		if err != nil {
			t.Error(err)
			continue
		}
		limit := 1e-5
		if strings.HasPrefix(name, "dpm_") || strings.HasPrefix(name, "uni_pc") {
			limit = .3
		}
		for i, v := range got.Data {
			if !(math.Abs(float64(v)-.5) <= limit) {
				t.Errorf("%s: element %d is %g, want 0.5", name, i, v)
				break
			}
		}
	}
}

func TestSampleStopsWhenCancelled(t *testing.T) {
	for _, name := range Samplers() {
		r, d := testRun(name)
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		_, err := Sample(ctx, r, func(ctx context.Context, x *tensor.Tensor, sigma float32) (Denoised, error) {
			if calls++; calls == 3 {
				cancel()
			}
			return d(ctx, x, sigma)
		})
		cancel()
		if !errors.Is(err, context.Canceled) || calls != 3 {
			t.Errorf("%s: %d calls, %v", name, calls, err)
		}
	}
}

func TestSamplePassesModelErrorsOn(t *testing.T) {
	broken := errors.New("out of memory")
	for _, name := range Samplers() {
		r, d := testRun(name)
		for bad := 1; bad <= 6; bad++ {
			calls := 0
			_, err := Sample(t.Context(), r, func(ctx context.Context, x *tensor.Tensor, sigma float32) (Denoised, error) {
				if calls++; calls == bad {
					return Denoised{}, broken
				}
				return d(ctx, x, sigma)
			})
			if calls >= bad && !errors.Is(err, broken) {
				t.Errorf("%s: failing call %d: %v", name, bad, err)
			}
		}
	}
}

func TestSampleRefuses(t *testing.T) {
	good, d := testRun("euler")
	guided, _ := testRun("euler_cfg_pp")
	tests := []struct {
		name string
		run  func(r Run) Run
		d    Denoiser
		want string
	}{
		{"unknown sampler", func(r Run) Run { r.Sampler = "eular"; return r }, d, `"eular"`},
		{"no model", func(r Run) Run { r.Model = nil; return r }, d, "needed"},
		{"no state", func(r Run) Run { r.X = nil; return r }, d, "needed"},
		{"no denoiser", func(r Run) Run { return r }, nil, "needed"},
		{"a state that lies", func(r Run) Run { r.X = &tensor.Tensor{Shape: tensor.Shape{9}}; return r }, d, "[9]"},
		{"no prediction", func(r Run) Run { return r }, answer(nil, nil), "shape"},
		{"a small prediction", func(r Run) Run { return r }, answer(tensor.New(1), nil), "shape"},
		{"no unconditional prediction", func(Run) Run { return guided }, answer(tensor.New(1, 4, 4, 4), nil), "unconditional"},
	}
	for _, c := range tests {
		if _, err := Sample(t.Context(), c.run(good), c.d); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func answer(x, unc *tensor.Tensor) Denoiser {
	return func(context.Context, *tensor.Tensor, float32) (Denoised, error) { return Denoised{x, unc}, nil }
}

func TestSampleWithoutSteps(t *testing.T) {
	for _, name := range Samplers() {
		for _, sigmas := range [][]float32{nil, {}, {3}} {
			r, d := testRun(name)
			r.Sigmas = sigmas
			got, err := Sample(t.Context(), r, d)
			if err != nil || !slices.Equal(got.Data, r.X.Data) || &got.Data[0] == &r.X.Data[0] {
				t.Errorf("%s with %v: %v, want a copy of the start", name, sigmas, err)
			}
		}
	}
}

// Schedules that make no sense give numbers that make no sense, but end.
func TestSampleOddSchedules(t *testing.T) {
	nan := float32(math.NaN())
	for _, name := range Samplers() {
		for _, sigmas := range [][]float32{{nan, 0}, {0, 0}, {1, 1, 0}, {0, 1}, {1e-4, .03, 14}, {5, nan, 0}} {
			r, d := testRun(name)
			r.Sigmas = sigmas
			if _, err := Sample(t.Context(), r, d); err != nil {
				t.Errorf("%s with %v: %v", name, sigmas, err)
			}
		}
	}
}

func TestStepsAreReported(t *testing.T) {
	r, d := testRun("heun")
	var steps []Step
	r.OnStep = func(s Step) { steps = append(steps, s) }
	if _, err := Sample(t.Context(), r, d); err != nil {
		t.Fatal(err)
	}
	if len(steps) != 5 {
		t.Fatalf("%d steps, want 5", len(steps))
	}
	for i, s := range steps {
		if s.Index != i || s.Total != 5 || s.Sigma != r.Sigmas[i] || !s.X.Shape.Equal(r.X.Shape) || s.Denoised.Data[0] != .5 {
			t.Errorf("step %d: %+v", i, s)
		}
	}
}

// The noise functions of er_sde: without noise the result does not depend on the
// seed.
func TestERSolvers(t *testing.T) {
	end := func(solver ERSolver, seed uint64) float32 {
		r, _ := testRun("er_sde")
		r.Options.ERSolver, r.Seed, r.Sigmas = solver, seed, r.Sigmas[:4]
		var calls []float32
		got, err := Sample(t.Context(), r, toy(64, &calls))
		if err != nil {
			t.Fatal(err)
		}
		return got.Data[5]
	}
	if end(ODE, 1) != end(ODE, 2) {
		t.Error("ODE: the seed matters")
	}
	for _, solver := range []ERSolver{ERSDE, ReverseTime} {
		if end(solver, 1) == end(solver, 2) {
			t.Errorf("solver %d: the seed does not matter", solver)
		}
	}
}

func TestFinalSigma(t *testing.T) {
	tests := []struct {
		name   string
		sigmas []float32
		want   float32
	}{
		{"euler", []float32{1, 0}, 0},
		{"uni_pc", []float32{1, 0}, .001},
		{"uni_pc_bh2", []float32{1, 0}, .001},
		{"uni_pc", []float32{1, .5}, .5},
		{"uni_pc", nil, 0},
	}
	for _, c := range tests {
		if got := FinalSigma(c.name, c.sigmas); got != c.want {
			t.Errorf("%s %v: %g, want %g", c.name, c.sigmas, got, c.want)
		}
	}
}

func TestInpaintRefuses(t *testing.T) {
	m, latent := NewDiscrete(EPS, false), tensor.New(2, 4, 3, 5)
	for _, shape := range []tensor.Shape{{2, 4, 3, 4}, {3, 1, 3, 5}, {2, 2, 3, 5}, {3, 5}, {2, 3, 5}} {
		if _, err := (Inpaint{Model: m, Mask: tensor.New(shape...), Latent: latent, Noise: latent}).Denoiser(answer(latent, nil)); err == nil {
			t.Errorf("mask %v: no error", shape)
		}
	}
	if _, err := (Inpaint{Model: m, Mask: tensor.New(1, 1, 3, 5), Latent: latent, Noise: tensor.New(1)}).Denoiser(answer(latent, nil)); err == nil {
		t.Error("noise of another shape: no error")
	}
	d, err := Inpaint{Model: m, Mask: tensor.New(1, 1, 3, 5), Latent: latent, Noise: latent}.Denoiser(answer(tensor.New(1), nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []*tensor.Tensor{tensor.New(1), latent} {
		if _, err := d(t.Context(), x, 1); err == nil {
			t.Errorf("state %v: no error", x.Shape)
		}
	}
}

func TestInpaintMasks(t *testing.T) {
	m, latent := NewDiscrete(EPS, false), tensor.Full(3, 2, 2, 1, 2)
	for _, mask := range []*tensor.Tensor{
		tensor.Of([]float32{1, 0}, 1, 1, 1, 2),
		tensor.Of([]float32{1, 0, 1, 0}, 2, 1, 1, 2),
		tensor.Of([]float32{1, 0, 1, 0, 1, 0, 1, 0}, 2, 2, 1, 2),
	} {
		var seen []float32
		d, err := Inpaint{Model: m, Mask: mask, Latent: latent, Noise: tensor.Full(1, 2, 2, 1, 2)}.Denoiser(
			func(_ context.Context, x *tensor.Tensor, _ float32) (Denoised, error) {
				seen = slices.Clone(x.Data)
				return Denoised{X: tensor.Full(9, x.Shape...)}, nil
			})
		if err != nil {
			t.Fatal(err)
		}
		out, err := d(t.Context(), tensor.Full(7, 2, 2, 1, 2), 2)
		if err != nil {
			t.Fatal(err)
		}
		if want := slices.Repeat([]float32{7, 5}, 4); !slices.Equal(seen, want) {
			t.Errorf("mask %v: the model sees %v, want %v", mask.Shape, seen, want)
		}
		if want := slices.Repeat([]float32{9, 3}, 4); !slices.Equal(out.X.Data, want) {
			t.Errorf("mask %v: prediction %v, want %v", mask.Shape, out.X.Data, want)
		}
	}
}

// A sampler keeps its buffers: what a step allocates is a few small headers.
func TestStepsAllocateLittle(t *testing.T) {
	den := tensor.Full(.5, 1, 4, 64, 64)
	x := tensor.Full(1, 1, 4, 64, 64)
	for _, name := range []string{"euler", "euler_ancestral", "heun", "dpmpp_2m", "res_multistep", "seeds_3"} {
		run := func(steps int) float64 {
			r := Run{Model: NewDiscrete(EPS, false), Sampler: name, Sigmas: Karras(steps, .03, 14.6, 7), X: x}
			return testing.AllocsPerRun(3, func() {
				if _, err := Sample(context.Background(), r, answer(den, den)); err != nil {
					t.Fatal(err)
				}
			})
		}
		if perStep := (run(20) - run(10)) / 10; perStep > 4 {
			t.Errorf("%s: %.1f allocations per step", name, perStep)
		}
	}
}

// BenchmarkEuler is the cost of one step without the model, on a 512×512 picture.
func BenchmarkEuler(b *testing.B) {
	den := tensor.Full(.5, 1, 4, 64, 64)
	r := Run{Model: NewDiscrete(EPS, false), Sampler: "euler", X: tensor.Full(1, 1, 4, 64, 64)}
	r.Sigmas = Karras(max(b.N, 1), .03, 14.6, 7)
	b.ReportAllocs()
	b.ResetTimer()
	if _, err := Sample(context.Background(), r, answer(den, nil)); err != nil {
		b.Fatal(err)
	}
}

// TestMirrored compares the mirrored form with euler where both predictions are
// the same, and looks at one step where they are not.
func TestMirrored(t *testing.T) {
	m := NewDiscrete(EPS, false)
	run := Run{Model: m, Sampler: "euler_cfg_pp", Options: Options{Mirrored: true}, Sigmas: []float32{4, 2}, X: tensor.Full(10, 1, 1, 1, 1)}
	for _, c := range []struct{ den, unc, want float32 }{{2, 2, 6}, {2, 4, 5}} {
		x, err := Sample(t.Context(), run, answer(tensor.Full(c.den, 1, 1, 1, 1), tensor.Full(c.unc, 1, 1, 1, 1)))
		if err != nil || x.Data[0] != c.want {
			t.Errorf("predictions %g and %g: %v, %v, want %g", c.den, c.unc, x, err, c.want)
		}
	}
}
