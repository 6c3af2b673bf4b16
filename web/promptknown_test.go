package web

import "github.com/comfyrun/comfyrun/web/webtest"

// knownOfPrompts are the places where our answers differ from ComfyUI's on purpose.
var knownOfPrompts = []webtest.Known{
	{
		Step: webtest.AnyStep, Path: "*/comfyrun",
		Reason: "what our worker adds to a result: attempts, times, errors in our words",
	},
	{
		Transcript: "prompt_errors", Step: 34, Path: "status",
		Reason: "a negative slot counts from the end in Python by accident; no program sends one on purpose, so it is refused",
	},
	{
		Transcript: "prompt_errors", Step: 36, Path: "json/node_errors/2/errors/0/extra_info/exception_type",
		Reason: "a link that names its node by a number is called a TypeError, not a KeyError: the engine says what is wrong with it",
	},
	{
		Transcript: "prompt_errors", Step: 43, Path: "json/error/details",
		Reason: "node 1 is an output too; outputs are checked in the order of the workflow, in ComfyUI in that of a set",
	},
	{
		Transcript: "prompt_errors", Step: 43, Path: "json/node_errors/1/errors/0",
		Reason: "the same: found at the output itself, not on the way to the other one",
	},
	{
		Transcript: "prompt_errors", Step: 46, Path: "json/node_errors",
		Reason: "a cycle is reported as newer versions do, at each of its nodes; ComfyUI 0.3.64 gives no reason at all",
	},
	{
		Transcript: "prompt_errors", Step: 50, Path: "json/error/details",
		Reason: "a node without inputs misses the required ones; ComfyUI stumbles over a key of its own",
	},
	{
		Transcript: "prompt_errors", Step: 50, Path: "json/node_errors/1/errors/0",
		Reason: "the same",
	},
	{
		Transcript: "coercion", Step: 13, Path: "json/p7/prompt/2/1/inputs/f",
		Reason: "a bare NaN is no JSON and stops browsers from reading the whole history; the text that was sent stays",
	},
	{
		Transcript: "queue_control", Step: 28, Path: "json/after2/status/messages/1/1/nodes",
		Reason: "memory is freed at once; ComfyUI forgets only after the prompt that follows",
	},
	{
		Transcript: "run_errors", Step: 3, Path: "json/outside/status/messages/2/1/current_inputs/prompt",
		Reason: "hidden inputs are not among the inputs that an error shows: they would repeat the whole workflow",
	},
	{
		Transcript: "run_errors", Step: 3, Path: "json/outside/status/messages/2/1/current_inputs/extra_pnginfo",
		Reason: "the same",
	},
	{
		Transcript: "run_errors", Step: 15, Path: "json/list0/status/messages/2/1/exception_type",
		Reason: "the engine refuses an empty list itself; in ComfyUI Python misses an argument",
	},
}
