package e2e
import ("testing";"fmt";"net/http";"strings")
func TestProbe(t *testing.T){ p:=use(t)
 for _, c := range []struct{n, size int}{{20,60_000},{200,60_000},{600, 60_000},{2000, 60_000}} {
 var nodes, edges []any
 for i := range c.n { nodes=append(nodes, object{"id":fmt.Sprintf("n%d",i),"type":"aggregator","metadata":object{"strategy":"template","template":"{user_input}","output_key":fmt.Sprintf("o%d",i),"include_metadata":false}}); if i>0 {edges=append(edges,object{"from":fmt.Sprintf("n%d",i-1),"to":fmt.Sprintf("n%d",i)})} }
 a, err:=p.Try(t,http.MethodPost,"/workflows/execute",object{"workflow":object{"start_node":"n0","nodes":nodes,"edges":edges},"initial_state":object{"user_input":strings.Repeat("y",c.size)}})
 fmt.Printf("%v: %v %d %d %.300s\n",c,err,a.Status,len(a.Body),a.Body)
 if id,ok:=a.JSON(t)["execution_id"].(string);ok { e:=p.Call(t,"GET","/executions/"+id,nil); fmt.Printf("  get %d %d\n",e.Status,len(e.Body)); e=p.Call(t,"GET","/executions/"+id+"/events",nil); fmt.Printf("  events %d %d\n",e.Status,len(e.Body)) }
 }
}
