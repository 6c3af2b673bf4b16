package engine_test

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

type add struct {
	A int `in:"a" range:"0,100"`
	B int `in:"b,optional"`
}

type show struct {
	Value int `in:"value"`
}

// A catalogue of two node types, and a workflow of three nodes that runs twice.
func Example() {
	c := engine.NewCatalog()
	engine.Add(c, "Add", "numbers", add{B: 1}, func(_ context.Context, in add) (int, error) { return in.A + in.B, nil })
	engine.Add(c, "Show", "numbers", show{}, func(_ context.Context, in show) (engine.UI, error) {
		return engine.UI{"text": {in.Value}}, nil
	}).Output()
	if err := c.Err(); err != nil {
		fmt.Println(err)
	}

	g, _ := workflows.Parse([]byte(`{
		"1": {"class_type": "Add", "inputs": {"a": 2}},
		"2": {"class_type": "Add", "inputs": {"a": ["1", 0], "b": 4.0}},
		"3": {"class_type": "Show", "inputs": {"value": ["2", 0]}}}`))
	runner := &engine.Runner{Cache: &engine.Cache{}}
	for range 2 {
		plan, err := engine.NewPlan(g, c, engine.PlanOptions{})
		if err != nil {
			fmt.Println(err)
			return
		}
		result, err := runner.Run(context.Background(), plan, engine.RunOptions{Events: func(e engine.Event) {
			if e.Kind == engine.EventExecuting {
				fmt.Println("executing", e.Node)
			}
		}})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(result.UI[0].UI)
	}

	g.Node("1").Inputs.Set("a", workflows.IntValue(-5))
	_, err := engine.NewPlan(g, c, engine.PlanOptions{})
	fmt.Println(err)
	// Output:
	// executing 1
	// executing 2
	// executing 3
	// map[text:[7]]
	// map[text:[7]]
	// the workflow is not valid
	// node 1 (Add), input a: -5 is below the minimum 0
}
