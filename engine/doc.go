// Package engine runs graphs of nodes. It knows what a node type is, how a
// workflow is checked against the types it uses, in which order its nodes run
// and what need not run again. It knows nothing of pictures, tensors or HTTP:
// what travels over links are Go values, and what they are is the business of
// the package that declares the node types.
//
// # The way of a workflow
//
//	c := engine.NewCatalog(engine.Socket[*diffusion.Model]("MODEL"), …)
//	engine.Add(c, "EmptyLatentImage", "latent", EmptyLatentImage{512, 512, 1}, emptyLatent)
//	err := c.Err()
//
//	g, err := workflows.Parse(data)
//	plan, err := engine.NewPlan(g, c, engine.PlanOptions{})
//	result, err := runner.Run(ctx, plan, engine.RunOptions{Events: show})
//
// A [Catalog] is made once, from a table of kinds and a list of declarations.
// A [Kind] ties a Go type to the word that ComfyUI has for it. [Add] derives a
// [NodeType] from a struct, whose fields are the inputs, and a function; all
// reflection happens there and in the binder that fills the struct. A
// NodeType is plain data, so an odd one may be written by hand. [ObjectInfo]
// tells editors what the catalogue holds.
//
// A workflows.Graph needs no catalogue. [NewPlan] brings both together: it
// finds each node's type, follows the links, brings literals to their kinds,
// asks the types' validators, orders the nodes and gives each [Step] a [Key].
// What is wrong is an [InvalidError] with every mistake at once, in ComfyUI's
// kinds. Everything is decided in the plan; nothing in it changes when it runs.
//
// A [Runner] executes what the plan's outputs need. Steps that are ready start
// in ComfyUI's order, beside each other where they do not both need the
// device. Values travel in lists: a node is called once per element, and the
// shorter lists repeat their last. Lazy inputs are evaluated when a node asks,
// an [Expand] makes new nodes while running, a [Blocker] keeps nodes from
// running. [Event] tells of all this; [Progress] is how a node's function adds
// to it.
//
// A [Cache] keeps results by key. A key is a hash of class, literals and the
// keys of what is linked, so an unchanged part of a workflow runs no second
// time, whatever its nodes are called. A fingerprint adds what a node depends
// on beside its inputs, such as a file; a volatile node has a new key in every
// plan.
//
// # Vocabulary
//
// An output is a slot of a node; an output node is a node that runs although
// nobody reads its outputs, and a target is one that was asked for. Literals
// are values written into the workflow. UI is what a node shows. A step is a
// node of a plan, a task a step of a run.
package engine
