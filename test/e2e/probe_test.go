package e2e
import ("testing";"fmt";"net/http";"strings";"time"
"github.com/agentflow/agentflow/test/fakeprovider")
func show(n string, a interface{}, err error, began time.Time){ fmt.Printf("%s (%v): %v %.700s\n", n, time.Since(began).Round(time.Millisecond), err, fmt.Sprint(a)) }
func TestProbe(t *testing.T){ p:=use(t)
 // P1
 var nodes, edges []any; var to []any
 nodes=append(nodes,object{"id":"in","type":"input"})
 for i:=range 100 { id:=fmt.Sprintf("b%d",i); nodes=append(nodes,object{"id":id,"type":"llm","metadata":object{"provider":"echo","prompt_template":"{user_input}","output_key":"o"+id}}); to=append(to,id); edges=append(edges,object{"from":id,"to":"j"}) }
 nodes=append(nodes,object{"id":"j","type":"aggregator","metadata":object{"strategy":"template","template":"done","include_metadata":false}}); edges=append(edges,object{"from":"in","to":to})
 b:=time.Now()
 a,err:=p.Try(t,http.MethodPost,"/workflows/execute",object{"workflow":object{"start_node":"in","nodes":nodes,"edges":edges},"initial_state":object{"user_input":strings.Repeat("y",60_000)}})
 fmt.Printf("P1 %v %d %d %v\n", err,a.Status,len(a.Body),time.Since(b)); if a.Status!=200 {fmt.Printf("%.400s\n",a.Body)}
 // P2
 for _, st := range []string{`{"execution_path":"x","tokens_used":"abc","metadata":5,"outputs":[1],"errors":null,"cost":"free","db_result":{},"user_input":"u"}`,`{"tokens_used":1e400,"cost":-1e-400,"user_input":"u"}`,`{"user_input":"u","":1,"a.b":2,"__proto__":{"x":1},"state":7}`,`{"user_input":"u","user_input":"v"}`} {
  b=time.Now(); a,err=p.Try(t,http.MethodPost,"/workflows/execute",`{"workflow":`+pure+`,"initial_state":`+st+`}`); show("P2",string(a.Body),err,b)
 }
 // P9
 out:=fakeprovider.New(t,func(fakeprovider.Request) fakeprovider.Reply{return fakeprovider.TooMany("3600")})
 b=time.Now(); a,err=p.Try(t,http.MethodPost,"/workflows/execute",asks(providers[0].model(out),nil)); show("P9",fmt.Sprint(a.Status,a.Header,string(a.Body)),err,b)
 out=fakeprovider.New(t,func(fakeprovider.Request) fakeprovider.Reply{return fakeprovider.TooMany("Wed, 21 Oct 2099 07:28:00 GMT")})
 b=time.Now(); a,err=p.Try(t,http.MethodPost,"/workflows/execute",asks(providers[0].model(out),nil)); show("P9b",fmt.Sprint(a.Status,string(a.Body)),err,b)
 // P9c: retry due in > 5 s goes to timers, answer arrives
 out=fakeprovider.New(t,firstThen(fakeprovider.TooMany("7")))
 b=time.Now(); a,err=p.Try(t,http.MethodPost,"/workflows/execute",asks(providers[0].model(out),nil)); show("P9c",fmt.Sprint(a.Status,string(a.Body)),err,b)
 // P3
 id:=p.Submit(t,asks(providers[0].model(fakeprovider.New(t,nil)),nil))
 a,err=p.Try(t,http.MethodGet,"/executions/"+id+"/events",nil,"Accept","text/event-stream"); show("P3",fmt.Sprint(a.Status,string(a.Body)),err,b)
 // P7
 hang:=fakeprovider.New(t,func(fakeprovider.Request) fakeprovider.Reply{return fakeprovider.Reply{Fault:fakeprovider.Hang}})
 var ids []string
 for range 600 { ids=append(ids,p.Submit(t,asks(providers[0].model(hang),nil))) }
 fmt.Println("hanging", hang.Count())
 c:=found(t,p,"patient")
 for range 5 { b=time.Now(); a,err=c.Try(t,http.MethodPost,"/workflows/execute",`{"workflow":`+pure+`,"initial_state":{"user_input":"x"}}`); show("P7",a.Status,err,b) }
 fmt.Println("hanging", hang.Count())
 b=time.Now(); a,err=p.Try(t,http.MethodPost,"/workflows/execute",`{"workflow":`+pure+`,"initial_state":{"user_input":"x"}}`); show("P7 same tenant",a.Status,err,b)
 b=time.Now(); for _,id:=range ids { a,err=p.Try(t,"POST","/executions/"+id+"/cancel",nil); if err!=nil||a.Status!=200 {fmt.Println("cancel",err,a.Status,string(a.Body)); break} }; show("cancelled","",nil,b)
 b=time.Now(); for _,id:=range ids { if e:=p.AwaitEnd(t,id); e.Status!="CANCELLED" {fmt.Println(e.Status,e.Error)} }; show("all ended",hang.Count(),nil,b)
}
